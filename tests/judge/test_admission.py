"""A judge may teach only an encoder that orders graded pairs surely worse."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.cli.main import main
from taoemb.config import EncoderConfig
from taoemb.data.dataset import Judgments, open_dataset
from taoemb.data.synth import synthesise
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import save_release
from taoemb.judge.admission import FEWEST_QUERIES, PAIRS, _best_source, _chosen, _kind
from taoemb.judge.agreement import ordered_share
from tests.judge.stub import Stub, serving
from tests.training.shop import rule_grade, tiny_encoder, write_grades, write_shop


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shop with grades by people and by rules."""
    return write_grades(write_shop(tmp_path_factory.mktemp("graded")))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_encoder(tmp_path_factory.mktemp("model"))
    config = EncoderConfig(model=str(model), max_item_tokens=16, max_query_tokens=16)
    return save_release(tmp_path_factory.mktemp("start") / "release", load_encoder(config)).path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err


def judge(wrong: float) -> Stub:
    """The shop's rule, turned round for a share of the pairs."""

    def grade(query: str, item: str) -> list[float]:
        title = item.splitlines()[0].partition(":")[2] or item
        right = rule_grade(query, title)
        turned = np.random.default_rng([len(title), *map(ord, query + title)]).random() < wrong
        return [0.88 if one == (5 - right if turned else right) else 0.04 for one in (1, 2, 3, 4)]

    return Stub(grade=grade)


@pytest.mark.parametrize(("wrong", "code"), [(0.0, 0), (0.5, 1), (1.0, 1)])
def test_admit(wrong: float, code: int, graded: Path, release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub = judge(wrong)
    with serving(stub) as url:
        words = ("--release", release, "--data", graded, "--judge-url", url, "--json")
        ended, out, err = run(capsys, "judge", "admit", *words)
    assert ended == code, err
    found = json.loads(out)
    assert found["admitted"] == (code == 0)
    assert found["source"] == "people"
    assert found["pairs"] <= PAIRS
    assert len(set(stub.pairs)) == len(stub.pairs) == found["pairs"]
    order = found["order"]
    assert order["low"] <= order["gain"] == pytest.approx(order["judge"] - order["encoder"])
    assert order["judge"] == (1 if wrong == 0 else pytest.approx(1 - wrong, abs=0.1))
    assert (order["low"] > 0) == found["admitted"]
    assert found["judge_right"] == (1 if wrong == 0 else 0 if wrong == 1 else pytest.approx(0.5, abs=0.2))
    if code:
        assert "taoemb: not admitted: on " in err
        assert "a judge must be surely better than the encoder that it teaches" in err


def test_too_few_graded_queries_are_refused(graded: Path, release: Path, tmp_path: Path, capsys) -> None:
    for name in ("items", "queries"):
        (tmp_path / f"{name}.parquet").symlink_to(graded / f"{name}.parquet")
    table = pq.read_table(graded / "judgments.parquet")
    few = pc.is_in(table["query_id"], pa.array([f"q{n}" for n in range(FEWEST_QUERIES - 1)]))
    pq.write_table(table.filter(few), tmp_path / "judgments.parquet")
    stub = judge(0)
    with serving(stub) as url:
        words = ("--release", release, "--data", tmp_path, "--judge-url", url)
        code, _, err = run(capsys, "judge", "admit", *words)
    assert code == 2
    assert f"{FEWEST_QUERIES - 1} queries have items of different grades, fewer than {FEWEST_QUERIES}" in err
    assert not stub.pairs


def test_people_go_before_judges_and_judges_before_rules() -> None:
    kinds = [_kind(source) for source in ("clerks", "", "rule + clerks", "judge:abc", "judge:abc + rule", "rule")]
    assert kinds == [0, 0, 0, 1, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), min_size=1, max_size=300), st.integers(20, 60))
@settings(max_examples=60, deadline=None)
def test_what_is_asked_about(rows: list[tuple[int, int]], limit: int) -> None:
    """Never more than the limit, only queries with different grades, and each with grades that differ."""
    queries, grades = (np.array(column) for column in zip(*rows, strict=True))
    judgments = Judgments(queries, np.arange(len(rows)), grades.astype(np.int8), [""] * len(rows))
    mixed = {q for q in set(queries.tolist()) if len(set(grades[queries == q].tolist())) > 1}
    if not mixed:
        return
    chosen = _chosen(judgments, limit, 0)
    assert len(set(chosen.tolist())) == len(chosen) <= limit
    asked = {q: set(grades[chosen][queries[chosen] == q].tolist()) for q in queries[chosen].tolist()}
    assert set(asked) <= mixed
    assert all(len(seen) > 1 for seen in asked.values())
    assert chosen.tolist() == _chosen(judgments, limit, 0).tolist()


def test_share_of_pairs_in_order() -> None:
    numbers, grades = np.array([0, 0, 0, 1, 1, 2]), np.array([4, 2, 1, 3, 3, 1])
    share = ordered_share(numbers, grades, np.array([0.9, 0.1, 0.1, 0.0, 1.0, 0.5]))
    assert share[0] == pytest.approx(2.5 / 3)  # a tie is half
    assert np.isnan(share[1:]).all()
    only_good = ordered_share(numbers, grades, np.array([0.9, 0.1, 0.1, 0, 1, 0.5]), lambda a, b: (a >= 3) & (b < 3))
    assert only_good[0] == 1


def test_grades_that_a_generated_shop_brings_are_rules(tmp_path: Path) -> None:
    synthesise(tmp_path / "shop", items=150, queries=20, seed=2)
    data = open_dataset(tmp_path / "shop", need=("items", "queries", "judgments"), every_judgment=True)
    assert _best_source(data)[1] == "rules"
