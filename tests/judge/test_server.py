"""The real server in its own process: chat completions as the openai client reads them, health, bad requests."""

import json
import math
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from taoemb.config import JudgeConfig, JudgeServerConfig
from taoemb.judge.backends import load_backend
from taoemb.judge.client import JudgeClient
from taoemb.judge.local import running_judge
from taoemb.judge.prompt import build_messages, load_rubric

MESSAGES = build_messages(load_rubric("v1"), "sofa", {"title": "Oak sofa"}, 64)
ASK = {"model": "judge", "messages": MESSAGES, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}


@pytest.fixture(scope="module")
def url(lm_folder: Path) -> Iterator[str]:
    with running_judge(lm_folder, threads=1) as url:
        yield url


@pytest.fixture(scope="module")
def expected(lm_folder: Path) -> np.ndarray:
    judge = load_backend(str(lm_folder), JudgeServerConfig())
    return judge.label_logprobs([judge.prepare(MESSAGES)])[0]


def post(url: str, body: object, route: str = "/chat/completions") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url + route, content=content, headers={"content-type": "application/json"}, timeout=30)


def test_the_openai_client_reads_the_answer(url: str, expected: np.ndarray) -> None:
    client = openai.OpenAI(base_url=url, api_key="none")
    answer = client.chat.completions.create(**ASK, seed=1, top_p=0.9)
    [choice] = answer.choices
    best = str(int(expected.argmax()) + 1)
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", best, "length")
    [token] = choice.logprobs.content
    assert (token.token, token.bytes) == (best, list(best.encode()))
    found = {entry.token: entry.logprob for entry in token.top_logprobs}
    np.testing.assert_allclose([found[label] for label in "1234"], expected, atol=1e-4)
    assert [entry.logprob for entry in token.top_logprobs] == sorted(found.values(), reverse=True)
    assert sum(map(math.exp, found.values())) < 1  # real log-probabilities: other tokens have their share
    assert answer.usage.prompt_tokens > 2000
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert (answer.object, answer.model) == ("chat.completion", "judge")


def test_the_openai_client_reads_the_models(url: str, lm_folder: Path) -> None:
    [model] = openai.OpenAI(base_url=url, api_key="none").models.list().data
    assert (model.id, model.object, model.owned_by) == ("judge", "model", "taoemb")
    assert model.model_extra["taoemb_digest"] == load_backend(str(lm_folder), JudgeServerConfig()).digest


def test_logprobs_only_when_asked_for(url: str) -> None:
    plain = {"model": "judge", "messages": MESSAGES}
    assert post(url, plain).json()["choices"][0]["logprobs"] is None
    for top in (0, 2):
        answer = post(url, plain | {"logprobs": True, "top_logprobs": top}).json()
        assert len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == top


def test_a_batch_gives_one_choice_a_conversation(url: str) -> None:
    conversations = [build_messages(load_rubric("v1"), f"sofa {i}", {"title": "Oak"}, 64) for i in range(5)]
    batch = post(url, ASK | {"messages": conversations}, "/chat/completions/batch").json()
    assert [choice["index"] for choice in batch["choices"]] == list(range(5))
    for messages, choice in zip(conversations, batch["choices"], strict=True):
        single = post(url, ASK | {"messages": messages}).json()["choices"][0]
        one, other = (
            {e["token"]: e["logprob"] for e in c["logprobs"]["content"][0]["top_logprobs"]} for c in (single, choice)
        )
        assert one == pytest.approx(other, abs=1e-4)
    assert batch["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("batch_size", [1, 16])
def test_our_client_and_many_at_once(url: str, batch_size: int) -> None:
    untrained = 1e-6  # knows nothing of labels: what matters here is that every question gets its own answer
    config = JudgeConfig(url=url, batch_size=batch_size, concurrency=8, min_label_mass=untrained)
    queries = [f"query {i}" for i in range(40)]
    with JudgeClient(config, registry=CollectorRegistry()) as judge, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(judge.grade, queries, [{"title": f"{n}"}] * 40) for n in range(4)]
        judged = [future.result() for future in futures]
    assert not any(part.unanswered for part in judged)
    relevance = np.stack([part.relevance for part in judged])
    assert relevance.std() > 0.01
    assert ((relevance >= 0) & (relevance <= 1)).all()


def test_content_parts_and_the_developer_role_are_read(url: str) -> None:
    parts = [{"role": "developer", "content": MESSAGES[0]["content"]}]
    parts += [{"role": "user", "content": [{"type": "text", "text": MESSAGES[1]["content"]}]}]
    same, plain = post(url, ASK | {"messages": parts}).json(), post(url, ASK).json()
    assert same["choices"][0]["logprobs"]["content"][0]["logprob"] == pytest.approx(
        plain["choices"][0]["logprobs"]["content"][0]["logprob"], abs=1e-4
    )


USER = {"role": "user", "content": "x"}
BAD: list[tuple[object, int, str]] = [
    (b"", 400, "not JSON"),
    (b"{", 400, "not JSON"),
    (b"\xff\xfe", 400, "not JSON"),
    (b"[" * 100_000, 400, "not JSON"),
    ([], 400, "not a JSON object"),
    (ASK | {"model": "gpt"}, 404, "'gpt' does not exist"),
    ({"messages": MESSAGES}, 404, "does not exist"),
    (ASK | {"messages": []}, 400, "messages"),
    (ASK | {"messages": None}, 400, "messages"),
    (ASK | {"messages": "hi"}, 400, "messages"),
    (ASK | {"messages": [USER] * 65}, 400, "1 to 64 messages"),
    (ASK | {"messages": ["hi"]}, 400, r"messages\[0\]"),
    (ASK | {"messages": [{"role": "tool", "content": "x"}]}, 400, "role"),
    (ASK | {"messages": [{"role": "user"}]}, 400, "expected text"),
    (ASK | {"messages": [{"role": "user", "content": []}]}, 400, "expected text"),
    (ASK | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "expected text"),
    (ASK | {"messages": [{"role": "user", "content": "\ud800"}]}, 400, "surrogate"),
    (ASK | {"messages": [{"role": "user", "content": "x" * 9000}]}, 400, "this judge reads 1 to 8192"),
    (ASK | {"messages": [{"role": "user", "content": "x" * 1_000_001}]}, 400, "1,000,000 characters"),
    (ASK | {"stream": True}, 400, "stream"),
    (ASK | {"n": 2}, 400, "n: "),
    (ASK | {"top_logprobs": 21}, 400, "top_logprobs"),
    (ASK | {"top_logprobs": "all"}, 400, "top_logprobs"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD, ids=range(len(BAD)))
def test_bad_requests_are_4xx_in_openai_format(url: str, body: object, status: int, words: str) -> None:
    answer = post(url, body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert re.search(words, error["message"])


@pytest.mark.parametrize("messages", [[], MESSAGES, [MESSAGES] * 2049, [[]], [MESSAGES, []], {}, None])
def test_bad_batches_are_4xx(url: str, messages: object) -> None:
    assert post(url, ASK | {"messages": messages}, "/chat/completions/batch").status_code == 400


def test_a_body_over_the_limit_is_413(url: str) -> None:
    answer = post(url, b" " * 33_000_000)
    assert answer.status_code == 413
    assert "larger than 32,000,000 bytes" in answer.json()["error"]["message"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
messages_like = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "x"]), "content": json_values})
    | json_values,
    max_size=4,
)


@given(
    body=st.fixed_dictionaries(
        {"model": st.just("judge"), "messages": messages_like | st.lists(messages_like, max_size=3) | json_values},
        optional={"logprobs": json_values, "top_logprobs": json_values, "n": json_values, "temperature": json_values},
    ),
    route=st.sampled_from(["/chat/completions", "/chat/completions/batch"]),
)
@settings(max_examples=60, deadline=None)
def test_no_body_makes_the_server_fail(url: str, body: dict, route: str) -> None:
    assert post(url, body, route).status_code in (200, 400)


def test_kserve_says_live_ready_and_counts(url: str) -> None:
    root = url.removesuffix("/openai/v1")
    assert httpx.get(f"{root}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{root}/v2/health/ready").json() == {"ready": True}
    assert httpx.get(f"{root}/v2/models/judge/ready").json()["ready"] is True
    assert httpx.get(f"{root}/v1/models").json() == {"models": ["judge"]}
    assert re.search(r"^taoemb_judge_server_pairs_total [1-9]", httpx.get(f"{root}/metrics").text, re.MULTILINE)
    assert httpx.get(f"{url}/chat/completions").status_code == 405
    assert httpx.get(f"{url}/nothing").status_code == 404


def test_it_listens_on_loopback_only(url: str) -> None:
    port = httpx.URL(url).port
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", port))
