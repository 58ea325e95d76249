"""Limits on what a client may send: a body that is too large is answered 413, one that does not come 408."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_S = 10.0


class BodyLimit:
    """ASGI middleware; FastAPI lets an HTTPException pass that reading the body raises."""

    def __init__(self, app: ASGIApp, most: int, seconds: float = BODY_S) -> None:
        """`most` bytes within `seconds`."""
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds
        size, whole = 0, False

        async def limited() -> Message:
            nonlocal size, whole
            if whole:  # waits for the client to go away
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not come within {self._seconds:g} s") from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self._most:
                raise HTTPException(413, f"the body is larger than {self._most:,} bytes")
            return message

        await self._app(scope, limited, send)
