"""The generated shop's own grading rules behind the judge's protocol: the best judge that Retrieval-GRPO could have.

    taoemb data synth --out shop --items 5000 --queries 2000 --seed 1
    taoemb data split --data shop --out split
    taoemb train sft --data split/train --out sft --set sft.steps=100
    python benchmarks/quality/rule_judge.py shop 8790 &
    taoemb train grpo --data split/train --release sft/release --out grpo --judge-url http://127.0.0.1:8790/v1 \
        --set judge.batch_size=64 --set 'grpo={steps: 150, k: 16}' --set 'rewards={quality: 0, exclusivity: 0}'
    taoemb evaluate --release grpo/release --baseline sft/release --data split/test --out report

Held against a trained judge on the same data, it tells how much of a gain the judge costs.
"""

import math
import sys
from functools import cache
from pathlib import Path

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from taoemb.data.dataset import open_dataset
from taoemb.data.oracle import ShopView, grades
from taoemb.judge.prompt import read_messages

SURE = 0.94  # probability of the right label; the others share the rest


def application(shop: Path) -> Starlette:
    """The OpenAI routes over the shop's rules."""
    data = open_dataset(shop, need=("items", "queries"))
    view = ShopView(data.items)
    row_of_title = {title: row for row, title in enumerate(data.items.column("title").to_pylist())}
    row_of_query = {text: row for row, text in enumerate(data.queries.texts)}

    @cache
    def graded(query: str) -> np.ndarray:
        return grades(data, row_of_query[query], view)

    def choice(index: int, messages: list[dict[str, str]]) -> dict:
        query, item = read_messages(messages)
        grade = int(graded(query)[row_of_title[item.splitlines()[0].removeprefix("title: ")]])
        top = [{"token": str(g), "logprob": math.log(SURE if g == grade else (1 - SURE) / 3)} for g in (1, 2, 3, 4)]
        content = [{"token": str(grade), "logprob": math.log(SURE), "top_logprobs": top}]
        message = {"role": "assistant", "content": str(grade)}
        return {"index": index, "message": message, "finish_reason": "length", "logprobs": {"content": content}}

    async def complete(request: Request) -> JSONResponse:
        messages = (await request.json())["messages"]
        conversations = messages if isinstance(messages[0], list) else [messages]
        return JSONResponse({"choices": [choice(i, conversation) for i, conversation in enumerate(conversations)]})

    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"data": [{"id": "rules", "taoemb_digest": "rules"}]})

    routes = [Route(f"/v1/chat/completions{end}", complete, methods=["POST"]) for end in ("", "/batch")]
    return Starlette(routes=[*routes, Route("/v1/models", models)])


if __name__ == "__main__":
    uvicorn.run(application(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
