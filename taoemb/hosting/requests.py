"""Reading requests of any size and kind, and refusing them in OpenAI's error format, never with a 5xx."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

Answer = TypeVar("Answer")


class TooLarge(Exception):
    """A request, or a part of it, is larger than the server takes; the message says which limit (413)."""


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. Raises TooLarge beyond `most` bytes, ClientDisconnect when the client goes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLarge(f"the request is larger than {most:,} bytes")
        parts.append(part)
    return b"".join(parts)


async def while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of `work`, which is cancelled when the client goes; its body must have been read.

    Raises ClientDisconnect, and what `work` raises.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()


def openai_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as OpenAI's clients read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": error}, status, headers)
