"""OpenAI's embeddings: https://platform.openai.com/docs/api-reference/embeddings."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.responses import Response

from taoemb.errors import InputError
from taoemb.hosting.requests import openai_error
from taoemb.serving.encoder.model import Embedded
from taoemb.serving.encoder.protocols import (
    Asked,
    Protocol,
    Served,
    check_name,
    check_texts,
    json_reply,
    read_json,
)


def read(served: Served, name: str | None, body: bytes, headers: Mapping[str, str]) -> Asked:
    """`{"model", "input": text or [text…], "encoding_format": "float" or "base64", "dimensions"}`."""
    tree = read_json(body)
    check_name(served, tree.get("model"))
    form = tree.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise InputError("encoding_format: expected float or base64")
    dimensions = tree.get("dimensions")
    if dimensions is not None and dimensions != served.dimension:
        raise InputError(f"dimensions: this release gives {served.dimension}; leave it out")
    given = tree.get("input")
    texts = [given] if isinstance(given, str) else check_texts(given, "input")
    return Asked(texts, lambda embedded: _reply(served, embedded, as_base64=form == "base64"))


def _reply(served: Served, embedded: Embedded, *, as_base64: bool) -> Response:
    rows: Any = [_base64(row) for row in embedded.vectors_ND] if as_base64 else embedded.vectors_ND
    tokens = int(embedded.tokens_N.sum())
    return json_reply(
        {
            "object": "list",
            "model": served.name,
            "release": served.digest,
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _base64(vector_D: np.ndarray) -> str:
    return base64.b64encode(vector_D.astype("<f4").tobytes()).decode("ascii")


OPENAI = Protocol("openai", read, openai_error)
