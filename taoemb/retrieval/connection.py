"""Opening and closing Milvus: a server by its address, or Milvus Lite in a file.

Milvus Lite runs inside this process and locks its file until the process ends; here the lock ends with the last
connection, so that a program can publish and then start another that searches.
"""

import logging
import os
from collections import Counter
from pathlib import Path

from pymilvus import MilvusClient, MilvusException

from taoemb.config import MilvusConfig
from taoemb.errors import TaoembError
from taoemb.retrieval.address import check_address, is_lite, read_token

CONNECT_S = 10.0
_open_files: Counter[str] = Counter()


class Connection:
    """A client of its own. Raises InputError for a bad address or token file, TaoembError when nothing answers."""

    def __init__(self, config: MilvusConfig) -> None:
        self.uri, self.lite = config.uri, is_lite(config)
        # All three log a traceback with every error that they raise as well.
        for name in ("pymilvus", "milvus_lite", "grpc._server") if self.lite else ("pymilvus",):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        check_address(config)
        token = read_token(config.token_file)
        if self.lite:
            Path(config.uri).absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            self.client = MilvusClient(config.uri, token=token, timeout=CONNECT_S, dedicated=True)
        except MilvusException as error:
            advice = "another process has it open, or it is no Milvus Lite file" if self.lite else "is it up?"
            raise TaoembError(f"cannot open Milvus at {config.uri} ({advice}): {error.message}") from None
        if self.lite:
            _open_files[os.path.abspath(self.uri)] += 1

    def close(self) -> None:
        """Disconnect; the last connection to a Lite file gives it free."""
        self.client.close()
        if not self.lite:
            return
        from milvus_lite.server_manager import server_manager_instance

        path = os.path.abspath(self.uri)
        _open_files[path] -= 1
        if not _open_files[path]:
            server_manager_instance.release_server(path)
