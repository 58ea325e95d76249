"""What the three protocols of the encoder server have in common: texts in, vectors and the release out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from taoemb.config import EncoderServerConfig
from taoemb.errors import InputError
from taoemb.hosting.requests import TooLarge
from taoemb.serving.encoder.model import Embedded


class UnknownModel(Exception):
    """The request names a model that this server does not have (404)."""


@dataclass(frozen=True)
class Served:
    """What every reply says of the server."""

    name: str
    """The model's name in requests."""
    digest: str
    """The release's digest."""
    dimension: int


@dataclass(frozen=True)
class Asked:
    """A request that was read and found good."""

    texts: list[str]
    reply: Callable[[Embedded], Response]


@dataclass(frozen=True)
class Protocol:
    """How requests are read and refused."""

    name: str
    read: Callable[[Served, str | None, bytes, Mapping[str, str]], Asked]
    """From the model's name in the path (None: not in the path), body and headers.

    Raises InputError (400) or UnknownModel (404).
    """
    refuse: Callable[[int, str, Mapping[str, str] | None], Response]
    """A reply of that status that says why, with these extra headers."""


def read_json(content: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises InputError when it is something else, or not valid Unicode."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InputError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise InputError("the body is not a JSON object")
    return body


def check_name(served: Served, name: Any) -> None:
    """Raises UnknownModel unless `name` is the served model's."""
    if name != served.name:
        raise UnknownModel(f"the model {name!r:.80} does not exist; this server has {served.name!r}")


def check_texts(texts: Any, where: str) -> list[str]:
    """`texts` as a list of one text or more; `where` names it in errors. Raises InputError."""
    if not isinstance(texts, list) or not texts:
        raise InputError(f"{where}: expected a list of one text or more")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{where}[{number}]: expected a text, found {type(text).__name__}")
    return texts


def check_limits(texts: list[str], config: EncoderServerConfig) -> None:
    """Raises TooLarge when there are too many texts, or one is too long."""
    if len(texts) > config.max_texts:
        raise TooLarge(f"{len(texts)} texts in one request; this server takes {config.max_texts}")
    for number, text in enumerate(texts):
        if len(text) > config.max_characters:
            raise TooLarge(f"text {number} has {len(text):,} characters; this server takes {config.max_characters:,}")


def json_reply(tree: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`tree`, which may hold numpy arrays, as JSON."""
    content = orjson.dumps(tree, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


def plain_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as KServe's V1 and V2 clients read it."""
    return json_reply({"error": message}, status, headers)
