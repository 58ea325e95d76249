"""The shop's rules as a judge, asked over real HTTP by the real client."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from taoemb.config import JudgeConfig
from taoemb.data.dataset import open_dataset
from taoemb.data.synth import synthesise
from taoemb.data.truth import Truth
from taoemb.judge.client import JudgeClient
from taoemb.judge.rules import SURE, RuleJudge
from taoemb.rollout.simulate.servers import LoopbackServer


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    shop = tmp_path_factory.mktemp("rules") / "shop"
    synthesise(shop, items=150, queries=10, seed=2)
    return Truth(open_dataset(shop, need=("items", "queries")))


@contextmanager
def asking(judge: RuleJudge) -> Iterator[JudgeClient]:
    with LoopbackServer(judge.application()) as server:
        config = JudgeConfig(url=f"{server.url}/v1", model="rules", batch_size=16, wait_s=5)
        with JudgeClient(config, registry=CollectorRegistry()) as client:
            yield client


def pairs(truth: Truth) -> tuple[list[str], list[dict]]:
    texts, rows = truth.data.queries.texts, np.arange(60)
    return [text for text in texts[:3] for _ in rows], truth.data.items.records(rows) * 3


def test_it_is_right(truth: Truth) -> None:
    queries, items = pairs(truth)
    with asking(RuleJudge(truth)) as client:
        assert client.release == "rules"
        judged = client.grade(queries, items)
    true = [truth.grades(query)[truth.row_of_title(item["title"])] for query, item in zip(queries, items, strict=True)]
    assert judged.unanswered == 0
    assert np.array_equal(judged.grade_probs.argmax(axis=1) + 1, true)
    assert judged.grade_probs.max(axis=1) == pytest.approx(SURE)


def test_it_is_wrong_as_told(truth: Truth) -> None:
    queries, items = pairs(truth)
    stern = RuleJudge(truth, lambda query, row, grade: max(1, grade - 1), "stern")
    with asking(stern) as client:
        assert client.release == "stern"
        judged = client.grade(queries, items)
    true = np.array(
        [truth.grades(query)[truth.row_of_title(item["title"])] for query, item in zip(queries, items, strict=True)]
    )
    assert np.array_equal(judged.grade_probs.argmax(axis=1) + 1, np.maximum(1, true - 1))


def test_it_is_slow_as_told(truth: Truth) -> None:
    queries, items = pairs(truth)
    with asking(RuleJudge(truth, delay_s=0.3)) as client:
        started = time.monotonic()
        client.grade(queries[:1], items[:1])
    assert time.monotonic() - started >= 0.3


def test_items_of_another_shop_stay_unanswered(truth: Truth, tmp_path: Path) -> None:
    queries, items = pairs(truth)
    with asking(RuleJudge(truth)) as client:
        judged = client.grade(queries[:1], [items[0] | {"title": "sold elsewhere"}])
    assert judged.unanswered == 1
