"""Where Milvus is and how to log in, checked without opening it (or importing its client)."""

from pathlib import Path

from taoemb.config import MilvusConfig
from taoemb.errors import InputError
from taoemb.secret_file import read_secret


def is_lite(config: MilvusConfig) -> bool:
    """Whether it is Milvus Lite in a file."""
    return config.uri.endswith(".db")


def check_address(config: MilvusConfig) -> None:
    """Raises InputError for an address that is neither a file nor a URL, and for a token that can't be read."""
    if not is_lite(config) and "://" not in config.uri:
        raise InputError(f"milvus.uri {config.uri!r}: give a file that ends with .db, or http(s)://host:19530")
    read_token(config.token_file)


def read_token(file: Path | None) -> str:
    """The token in a mounted Secret; empty without a file."""
    return "" if file is None else read_secret(file, "milvus.token_file")
