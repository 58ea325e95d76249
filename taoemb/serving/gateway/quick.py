"""The short way of most searches: `POST /search` with a plain JSON body, past FastAPI's own machinery.

FastAPI's routing, dependencies and parsing cost about as much as all the rest of the gateway. What is unusual about a
request, and whatever is wrong with it, is left to the route that the OpenAPI page describes: it gets the request as
it came, so there is one place that says what a bad request is.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taoemb.serving.gateway.errors import problem, refuse
from taoemb.serving.gateway.models import SearchBody

Answer = Callable[[SearchBody, Scope], Awaitable[Response]]
PATH = "/search"
_ROUTE_ONLY = frozenset((b"x-taoemb-arm", b"x-taoemb-tester"))


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
            messages = await _whole(receive)
        except HTTPException as error:
            await problem(error.status_code, error.detail)(scope, receive, send)
            return
        body = _read(messages)
        if body is None:
            await self._app(scope, _again(messages, receive), send)
            return
        try:
            response = await self._answer(body, scope)
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


async def _whole(receive: Receive) -> list[Message]:
    """The messages of a body. Raises HTTPException when `BodyLimit` does."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _read(messages: Sequence[Message]) -> SearchBody | None:
    """The search; None when it is not one, or the client has gone."""
    if messages[-1]["type"] != "http.request":
        return None
    try:
        return SearchBody.model_validate_json(b"".join(message.get("body", b"") for message in messages))
    except ValidationError:
        return None


def _again(messages: Sequence[Message], receive: Receive) -> Receive:
    """A `receive` that gives `messages` once more and then goes on."""
    waiting = deque(messages)

    async def replayed() -> Message:
        return waiting.popleft() if waiting else await receive()

    return replayed
