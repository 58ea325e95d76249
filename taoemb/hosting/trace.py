"""What ties one search's log lines and calls together: W3C `traceparent` and `x-request-id`, taken and passed on.

Only well-formed values are taken: they come from outside, and end in headers and logs.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID, PARENT = "x-request-id", "traceparent"
_FORMS = {
    REQUEST_ID.encode(): re.compile(rb"[!-~]{1,128}"),
    PARENT.encode(): re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"),
}
_NOTHING: Mapping[str, str] = {}
_current: ContextVar[Mapping[str, str]] = ContextVar("trace", default=_NOTHING)


def trace_headers() -> Mapping[str, str]:
    """Those of the request that is being answered, for the calls made on its behalf; empty outside of one."""
    return _current.get()


class Trace:
    """ASGI middleware; replies carry the `x-request-id` that came."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = {
            name.decode(): value.decode()
            for name, value in scope["headers"]
            if name in _FORMS and _FORMS[name].fullmatch(value)
        }
        if not found:
            await self._app(scope, receive, send)
            return
        given = found.get(REQUEST_ID)

        async def told(message: Message) -> None:
            if given is not None and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID.encode(), given.encode())]
            await send(message)

        token = _current.set(found)
        try:
            await self._app(scope, receive, told)
        finally:
            _current.reset(token)
