"""The labels' part of the first token's probability: true where it is measured, and shown where it may be watched."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from transformers import AutoModelForCausalLM, AutoTokenizer

from taoemb.config import JudgeServerConfig
from taoemb.judge.backends import load_backend
from taoemb.judge.batcher import judge_batcher
from taoemb.judge.failures import JudgeUnfit
from taoemb.judge.openai_routes import JudgeRoutes
from taoemb.judge.probe import probe
from taoemb.judge.prompt import build_messages, load_rubric
from tests.judge.clients import client, numbered
from tests.judge.stub import Stub, free_port, serving


def diluted(share: float):
    """The labels hold this share; the rest is a word's."""

    def change(answer: dict) -> dict:
        for one in answer["choices"]:
            top = one["logprobs"]["content"][0]["top_logprobs"]
            for entry in top:
                entry["logprob"] += math.log(share)
            top.append({"token": "the", "logprob": math.log(1 - share)})
        return answer

    return change


def test_awkward_mass_is_a_histogram() -> None:
    registry, stub = CollectorRegistry(), Stub()
    with serving(stub) as url, client(url, registry) as judge:

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"taoemb_judge_label_mass_{name}", {"judge": url, **labels})

        for share, n in ((0.8, 3), (0.3, 2)):  # what does not count is seen there too
            stub.change = diluted(share)
            judged = judge.grade(*numbered(n))
            assert judged.unanswered == (0 if share > 0.5 else n)
            if share > 0.5:
                np.testing.assert_allclose(judged.label_mass, share, atol=1e-6)
            else:
                assert np.isnan(judged.label_mass).all()
        assert value("count") == 5
        assert value("sum") == pytest.approx(3 * 0.8 + 2 * 0.3)
        assert value("bucket", le="0.5") == 2
        assert value("bucket", le="0.9") == 5


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """What `taoemb judge serve` answers, in this process."""
    backend = load_backend(str(folder), JudgeServerConfig())
    queue = judge_batcher(backend, batch_pairs=8, wait_s=0, queue_pairs=100, registry=CollectorRegistry())
    application = Starlette(routes=JudgeRoutes("judge", backend, queue, 1_000_000).routes())
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.005)
    yield f"http://127.0.0.1:{port}/openai/v1"
    server.should_exit = True
    thread.join(5)


def test_awkward_mass_of_a_served_model_is_of_the_whole_vocabulary(lm_folder: Path) -> None:
    """Random weights think next to nothing of the labels: nothing may make grades of that."""
    texts, rubric = ("sofa", {"title": "Oak sofa"}), load_rubric("v1")
    tokenizer, model = AutoTokenizer.from_pretrained(lm_folder), AutoModelForCausalLM.from_pretrained(lm_folder).eval()
    prompt = tokenizer.apply_chat_template(
        build_messages(rubric, *texts, 256), tokenize=False, add_generation_prompt=True
    )
    with torch.inference_mode():
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        probs_V = model(input_ids=ids).logits[0, -1].double().softmax(-1)
    labels = [tokenizer.convert_tokens_to_ids(label) for label in "1234"]
    mass = float(probs_V[labels].sum())
    assert 0 < mass < 0.5
    with served(lm_folder) as url:
        with client(url, min_label_mass=mass / 2, item_tokens=256) as judge:
            judged = judge.grade([texts[0]], [texts[1]])
        with client(url) as judge, pytest.raises(JudgeUnfit) as failure:
            probe(judge)
    assert judged.label_mass[0] == pytest.approx(mass, rel=1e-3)
    np.testing.assert_allclose(judged.grade_probs[0], (probs_V[labels] / mass).float().numpy(), atol=1e-4)
    first = tokenizer.decode([int(probs_V.argmax())])
    assert first not in "1234"
    assert "where judge.min_label_mass wants 0.5" in str(failure.value)
    assert "the first token is " in str(failure.value)


def test_awkward_first_token_of_a_served_model_is_told(lm_folder: Path) -> None:
    """What the model would rather say than a label, which is what its user has to know."""
    judge = load_backend(str(lm_folder), JudgeServerConfig())
    messages = build_messages(load_rubric("v1"), "sofa", {"title": "Oak sofa"}, 256)
    said = judge.first_tokens([judge.prepare(messages)])
    [(token, logprob)] = said.others
    assert logprob > said.labels_P4.max()
    with served(lm_folder) as url, client(url) as asker:
        judged = asker.grade(["sofa"], [{"title": "Oak sofa"}])
    assert f"the first token is {token!r} (probability {math.exp(logprob):.2g})" in judged.problem
