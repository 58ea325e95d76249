"""The routes over a cross-encoder, in one process, and what a broken model looks like from outside."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from taoemb.config import JudgeServerConfig
from taoemb.judge.answers import grade_probs
from taoemb.judge.backends import CrossEncoderBackend, load_backend
from taoemb.judge.batcher import judge_batcher
from taoemb.judge.openai_routes import JudgeRoutes
from taoemb.judge.prompt import build_messages, load_rubric
from taoemb.judge.protocol import Backend, FirstTokens
from tests.judge.conftest import tiny_tokenizer

RUBRIC = load_rubric("v1")
PAIRS = [("sofa", {"title": "Oak sofa"}), ("lamp", {"title": "Red lamp", "description": "bright " * 30})]


def ask(backend: Backend, body: dict, route: str = "/chat/completions", queue_pairs: int = 100) -> httpx.Response:
    async def run() -> httpx.Response:
        batcher = judge_batcher(backend, batch_pairs=8, wait_s=0, queue_pairs=queue_pairs, registry=CollectorRegistry())
        app = Starlette(routes=JudgeRoutes("judge", backend, batcher, 1_000_000).routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://judge/openai/v1") as http:
            return await http.post(route, json={"model": "judge", "logprobs": True, "top_logprobs": 4} | body)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import AutoModel, BertConfig

    from taoemb.judge.cross_encoder import CrossEncoder, CrossEncoderJudge, CrossEncoderSpec

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(tokenizer), initializer_range=1.0, **sizes)
    model = CrossEncoder(AutoModel.from_config(config), "softmax")
    torch.nn.init.normal_(model.head.weight)
    out = tmp_path_factory.mktemp("cross-encoder")
    CrossEncoderJudge(model, tokenizer, CrossEncoderSpec(), {}).save(out, {})
    return out


def test_a_trained_cross_encoder_is_served_with_its_own_probabilities(cross_encoder: Path) -> None:
    from taoemb.judge.cross_encoder import CrossEncoderJudge
    from taoemb.judge.prompt import item_text

    backend = load_backend(str(cross_encoder), JudgeServerConfig())
    assert isinstance(backend, CrossEncoderBackend)
    judge = CrossEncoderJudge.load(cross_encoder)
    assert (backend.digest, backend.kind) == (judge.digest, "cross-encoder")
    messages = [build_messages(RUBRIC, query, item, 256) for query, item in PAIRS]
    answer = ask(backend, {"messages": messages}, "/chat/completions/batch").json()
    expected = judge.score([query for query, _ in PAIRS], [item_text(item, 256) for _, item in PAIRS])
    assert np.ptp(expected, axis=0).max() > 0.01  # the pairs differ
    np.testing.assert_allclose([grade_probs(choice) for choice in answer["choices"]], expected, atol=1e-5)
    assert answer["usage"]["prompt_tokens"] > 0


def test_a_prompt_that_is_no_pair_is_refused(cross_encoder: Path) -> None:
    backend = load_backend(str(cross_encoder), JudgeServerConfig())
    answer = ask(backend, {"messages": [{"role": "user", "content": "Is an oak sofa a sofa?"}]})
    assert answer.status_code == 400
    assert "expected <query>…</query> and <item>…</item>" in answer.json()["error"]["message"]


class Broken:
    """A model in trouble."""

    kind, digest, max_tokens = "test", "d", 10

    def prepare(self, messages: Sequence[dict]) -> str:
        return messages[0]["content"]

    def prompt_tokens(self, prepared: str) -> int:
        return 1

    def first_tokens(self, prepared: Sequence[str]) -> FirstTokens:
        if prepared[0] == "crash":
            raise RuntimeError("CUDA out of memory")
        return FirstTokens(np.array([[-1.0, -2.0, -3.0, np.nan]] * len(prepared)))


def test_a_model_that_crashes_is_500_and_says_nothing_of_its_insides() -> None:
    answer = ask(Broken(), {"messages": [{"role": "user", "content": "crash"}]})
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "judging failed; see the server's log",
        "type": "server_error",
        "param": None,
        "code": 500,
    }


def test_a_model_that_gives_nan_gives_no_label() -> None:
    [choice] = ask(Broken(), {"messages": [{"role": "user", "content": "x"}]}).json()["choices"]
    assert choice["message"]["content"] == ""
    assert grade_probs(choice) is None
