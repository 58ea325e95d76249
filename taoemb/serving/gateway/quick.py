"""The short way of most searches: `POST /search` with a plain JSON body, past FastAPI's own machinery.

FastAPI's routing, dependencies and parsing cost about as much as all the rest of the gateway. What is unusual about a
request, and whatever is wrong with it, is left to the route that the OpenAPI page describes: it gets the request as
it came, so there is one place that says what a bad request is.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taoemb.serving.gateway.errors import problem, refuse
from taoemb.serving.gateway.models import SearchBody

Answer = Callable[[SearchBody], Awaitable[Response]]
PATH = "/search"
_ROUTE_ONLY = frozenset((b"x-taoemb-arm", b"x-taoemb-tester", b"transfer-encoding"))


class QuickSearch:
    """ASGI middleware; stands inside `BodyLimit` and before everything of FastAPI."""

    def __init__(self, app: ASGIApp, answer: Answer) -> None:
        """`answer` serves a search that was read; it may raise RequestValidationError."""
        self._app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_plain(scope):
            await self._app(scope, receive, send)
            return
        try:
            message = await receive()
        except HTTPException as error:
            await problem(error.status_code, error.detail)(scope, receive, send)
            return
        body = _read(message)
        if body is None:
            await self._app(scope, _again(message, receive), send)
            return
        try:
            response = await self._answer(body)
        except RequestValidationError as error:
            response = refuse(Request(scope), error)
        await response(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    """Whether it is a search in JSON that forces no arm by a header."""
    if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
        return False
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name in _ROUTE_ONLY:
            return False
    return kind == b"application/json"


def _read(message: Message) -> SearchBody | None:
    """The search; None when it came in parts, or is not one."""
    if message["type"] != "http.request" or message.get("more_body", False):
        return None
    try:
        return SearchBody.model_validate_json(message.get("body", b""))
    except ValidationError:
        return None


def _again(first: Message, receive: Receive) -> Receive:
    """A `receive` that gives `first` once more and then goes on."""
    waiting = [first]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
