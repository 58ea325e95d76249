"""A generated shop's own grading rules behind the judge's protocol: a judge that is right, or wrong in a known way.

Held against a trained judge it tells how much of a gain the judge costs; in simulations of rollouts its errors and
its speed are given.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from taoemb.data.truth import Truth
from taoemb.errors import InputError
from taoemb.judge.prompt import read_messages

SURE = 0.94  # probability of the label it gives; the others share the rest
Opinion = Callable[[str, int, int], int]
"""(query, item row, true grade) → the grade that the judge gives."""


def honest(query: str, row: int, grade: int) -> int:
    """The opinion of a judge without errors."""
    return grade


@dataclass(frozen=True)
class RuleJudge:
    """What the server says, under which name, and how fast."""

    truth: Truth
    opinion: Opinion = honest
    digest: str = "rules"
    """Names the judge in caches and records; another opinion needs another name."""
    delay_s: float = 0.0
    """Seconds that each request takes at least."""

    def choice(self, index: int, messages: list[dict[str, str]]) -> dict[str, object]:
        """The OpenAI choice for one conversation. Raises InputError when it is no judge prompt of this shop."""
        query, item = read_messages(messages)
        row = self.truth.row_of_title(item.split("\n", 1)[0].removeprefix("title: "))
        grade = self.opinion(query, row, int(self.truth.grades(query)[row]))
        top = [{"token": str(g), "logprob": math.log(SURE if g == grade else (1 - SURE) / 3)} for g in (1, 2, 3, 4)]
        content = [{"token": str(grade), "logprob": math.log(SURE), "top_logprobs": top}]
        message = {"role": "assistant", "content": str(grade)}
        return {"index": index, "message": message, "finish_reason": "length", "logprobs": {"content": content}}

    async def complete(self, request: Request) -> JSONResponse:
        """Chat completions of one conversation, or of several by vLLM's batch route."""
        messages = (await request.json())["messages"]
        conversations = messages if isinstance(messages[0], list) else [messages]
        await asyncio.sleep(self.delay_s)
        try:
            choices = [self.choice(i, conversation) for i, conversation in enumerate(conversations)]
        except InputError as error:
            return JSONResponse({"error": {"message": str(error)}}, 400)
        return JSONResponse({"choices": choices})

    async def models(self, request: Request) -> JSONResponse:
        """The one model, with its digest."""
        return JSONResponse({"data": [{"id": "rules", "taoemb_digest": self.digest}]})

    def application(self) -> Starlette:
        """The OpenAI routes under /v1."""
        routes = [Route(f"/v1/chat/completions{end}", self.complete, methods=["POST"]) for end in ("", "/batch")]
        return Starlette(routes=[*routes, Route("/v1/models", self.models)])
