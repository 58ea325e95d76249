"""A judge endpoint that tests can make slow, broken or dead: real HTTP on loopback, scripted answers."""

import asyncio
import json
import math
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from taoemb.judge.prompt import read_messages

GRADE_3 = (0.0, 0.1, 0.8, 0.1)  # probabilities of the grades 1..4


def choice(index: int, probs: Sequence[float]) -> dict[str, Any]:
    """An OpenAI chat choice whose first token has `probs` for the labels 1..4."""
    top = [{"token": str(i + 1), "logprob": math.log(p), "bytes": None} for i, p in enumerate(probs) if p > 0]
    top.sort(key=lambda entry: -entry["logprob"])
    message = {"role": "assistant", "content": top[0]["token"]}
    content = [top[0] | {"top_logprobs": top}]
    return {"index": index, "message": message, "logprobs": {"content": content}, "finish_reason": "length"}


@dataclass
class Stub:
    """What the judge does, and what it saw."""

    grade: Callable[[str, str], Sequence[float]] = lambda query, item: GRADE_3
    fault: Callable[[list[tuple[str, str]]], Response | None] = lambda pairs: None  # a response instead of an answer
    change: Callable[[dict[str, Any]], Any] = lambda answer: answer
    delay_s: float = 0.0
    batch_route: bool = True
    models: Callable[[], Response | dict[str, Any]] = lambda: {"data": [{"id": "judge", "taoemb_digest": "d1"}]}
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    url: str = ""

    async def complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        batch = request.url.path.endswith("/batch")
        if batch and not self.batch_route:
            return JSONResponse({"detail": "Not Found"}, 404)
        pairs = [read_messages(messages) for messages in (body["messages"] if batch else [body["messages"]])]
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.running -= 1
        failure = self.fault(pairs)
        if failure is not None:
            return failure
        self.pairs.extend(pairs)
        choices = [choice(i, self.grade(*pair)) for i, pair in enumerate(pairs)]
        return JSONResponse(self.change({"id": "x", "object": "chat.completion", "choices": choices}))

    async def list_models(self, request: Request) -> Response:
        answer = self.models()
        return answer if isinstance(answer, Response) else JSONResponse(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(stub: Stub, port: int | None = None, **options: Any) -> Iterator[str]:
    """Serve `stub` on loopback; yields its base URL. `options` are uvicorn's, e.g. for TLS."""
    port = port or free_port()
    routes = [
        Route("/v1/chat/completions", stub.complete, methods=["POST"]),
        Route("/v1/chat/completions/batch", stub.complete, methods=["POST"]),
        Route("/v1/models", stub.list_models),
    ]
    options = {"log_level": "error", "timeout_graceful_shutdown": 1} | options
    config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=port, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.005)
    stub.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield stub.url
    finally:
        server.should_exit = True
        thread.join(5)
