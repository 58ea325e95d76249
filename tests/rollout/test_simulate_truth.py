"""A simulation's truth: encoders that are as good as they are said to be, a judge that errs as it is told."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.data.dataset import open_dataset
from taoemb.data.synth import synthesise
from taoemb.data.truth import Truth
from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.simulate.options import Options
from taoemb.rollout.simulate.scenario import FADE, Outage, Scenario, parse_outage
from taoemb.rollout.simulate.servers import LoopbackServer, encoder_application
from taoemb.rollout.simulate.truth import hold_against
from taoemb.rollout.simulate.world import ARMS, Levels, World, levels, make_world, page_values
from taoemb.rollout.state import begin, moved
from taoemb.serving.readback import read_release

DEPTH = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    shop = tmp_path_factory.mktemp("world") / "shop"
    synthesise(shop, items=600, queries=120, seed=1)
    return make_world(Truth(open_dataset(shop, need=("items", "queries"))), queries=40, depth=DEPTH, seed=0)


def test_both_arms_find_good_pages_and_different_ones(world: World) -> None:
    for arm in ARMS:
        found = levels(world.grades_QN, world.pages_QK[arm])
        assert found.right > 0.55 > 0.2 > found.wrong
    same = (world.pages_QK["control"] == world.pages_QK["candidate"]).mean()
    assert same < 0.9


def test_page_values_are_shares_of_good_items(world: World) -> None:
    values_QQ = page_values(world.grades_QN, world.pages_QK["control"])
    ids = world.truth.data.items.ids_of(world.pages_QK["control"][7])
    for row in (0, 7, 20):
        grades = world.truth.of_items(world.queries[row], ids)
        assert values_QQ[row, 7] == pytest.approx(sum(grade >= 3 for grade in grades) / DEPTH)


def test_a_shop_that_is_too_small_is_refused(tmp_path: Path) -> None:
    synthesise(tmp_path / "shop", items=20, queries=4, seed=1)
    with pytest.raises(InputError, match="queries have 10 good items"):
        make_world(Truth(open_dataset(tmp_path / "shop", need=("items", "queries"))), 10, 10, 0)


def test_an_encoder_is_as_good_as_it_is_told(world: World) -> None:
    """Searches by its answers give the chosen mean quality."""
    found = levels(world.grades_QN, world.pages_QK["control"])
    quality = (found.right + found.wrong) / 2
    row_of = {text: row for row, text in enumerate(world.queries)}
    vectors = world.query_vectors_QD["control"]
    share = found.wrong_share(quality)
    application = encoder_application("d" * 64, row_of, vectors, lambda: share, seed=3)
    asked = list(world.queries) * 40
    with LoopbackServer(application) as server, httpx.Client(trust_env=False) as http:
        assert read_release(server.url) == "d" * 64
        answer = http.post(
            f"{server.url}/openai/v1/embeddings",
            json={"model": "encoder", "input": asked, "encoding_format": "base64"},
        )
    import base64

    got = [np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4") for one in answer.json()["data"]]
    pages = np.argsort(-(np.stack(got) @ world.item_vectors_ND.T), axis=1, kind="stable")[:, :DEPTH]
    rows = np.array([row_of[text] for text in asked])
    good = (world.grades_QN[rows[:, None], pages] >= 3).mean()
    assert good == pytest.approx(quality, abs=0.05)


def test_an_honest_judge_has_the_true_grades(world: World) -> None:
    assert np.array_equal(Scenario().judged_grades(world, seed=0), world.grades_QN)


def test_a_random_judge_flips_the_share_it_is_told(world: World) -> None:
    judged = Scenario(judge_flips=0.4).judged_grades(world, seed=0)
    assert (judged != world.grades_QN).mean() == pytest.approx(0.4 * 3 / 4, abs=0.02)
    assert np.array_equal(judged, Scenario(judge_flips=0.4).judged_grades(world, seed=0))


@pytest.mark.parametrize(("prejudice", "sign"), [(0.8, -1), (-0.8, 1)])
def test_a_prejudiced_judge_is_wrong_about_the_candidate_alone(world: World, prejudice: float, sign: int) -> None:
    judged = Scenario(judge_prejudice=prejudice).judged_grades(world, seed=0)
    before = {arm: levels(world.grades_QN, world.pages_QK[arm]) for arm in ARMS}
    after = {arm: levels(judged, world.pages_QK[arm]) for arm in ARMS}
    assert after["control"] == before["control"]
    halves = [(found["candidate"].right + found["candidate"].wrong) / 2 for found in (before, after)]
    assert sign * (halves[1] - halves[0]) > 0.02


@given(st.floats(0.05, 0.65))
def test_the_wrong_share_gives_the_quality(quality: float) -> None:
    found = Levels(right=0.7, wrong=0.02)
    share = found.wrong_share(quality)
    assert found.right * (1 - share) + found.wrong * share == pytest.approx(quality)


@pytest.mark.parametrize("quality", [0.8, 0.0, -0.1])
def test_a_quality_out_of_reach_is_refused(quality: float) -> None:
    with pytest.raises(InputError, match="out of reach"):
        Levels(right=0.7, wrong=0.02).wrong_share(quality)


def test_novelty_wears_off_and_drift_is_shared() -> None:
    scenario = Scenario(lift=0.1, novelty=0.2, drift=-0.1, quality=0.4)
    assert scenario.lift_at(0) == pytest.approx(0.3)
    assert scenario.lift_at(FADE) == pytest.approx(0.1 + 0.2 / np.e)
    assert scenario.lift_at(1) == pytest.approx(0.1, abs=0.001)
    assert scenario.mean("control", 1) == pytest.approx(0.3)


def test_while_one_arm_is_away_there_is_no_difference() -> None:
    scenario = Scenario(lift=0.1, outages=(Outage("candidate", 0.2, 0.4), Outage("judge", 0.6, 0.7)))
    assert [round(scenario.lift_at(at), 9) for at in (0.1, 0.2, 0.39, 0.4, 0.65)] == [0.1, 0, 0, 0.1, 0.1]


@pytest.mark.parametrize(
    "text", ["", "candidate", "gateway:0.1-0.2", "judge:0.5-0.5", "judge:0.6-0.5", "judge:0-2", "judge:-1-1"]
)
def test_outages_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--outage"):
        parse_outage(text)


def test_outages_are_read() -> None:
    assert parse_outage("candidate:0.25-0.5") == Outage("candidate", 0.25, 0.5)
    assert parse_outage("judge:0-1") == Outage("judge", 0.0, 1.0)


@pytest.mark.parametrize(
    ("lift", "phase", "verdict_is"),
    [
        (0.1, "Promoted", "right"),
        (-0.1, "Promoted", "wrong"),
        (-0.1, "RolledBack", "right"),
        (0.1, "RolledBack", "wrong"),
        (0.1, "Stepping", "open"),
        (-0.1, "Stepping", "open"),
    ],
)
def test_verdicts_are_held_against_the_truth(tmp_path: Path, lift: float, phase: str, verdict_is: str) -> None:
    state = moved(begin("r", Candidate("c" * 64, ""), "s", 0.0), phase, "…", 1.0)  # type: ignore[arg-type]
    both = {arm: Levels(0.7, 0.02) for arm in ARMS}
    held = hold_against(Options(tmp_path, Scenario(lift=lift)), both, both, [(0.0, 0.0), (0.1, 50.0)], 0.8, state)
    assert held.verdict_is == verdict_is
    assert held.average == pytest.approx(lift)
    assert held.judged == pytest.approx(lift)


def test_the_average_counts_units_by_their_share(tmp_path: Path) -> None:
    """Nobody is graded before the first share; then twice the smaller arm's share is."""
    scenario = Scenario(lift=0.0, outages=(Outage("control", 0.5, 1.0),), novelty=0.0)
    scenario = Scenario(lift=0.1, outages=scenario.outages)
    state = begin("r", Candidate("c" * 64, ""), "s", 0.0)
    both = {arm: Levels(0.7, 0.02) for arm in ARMS}
    shares = [(0.0, 0.0), (0.25, 10.0), (0.5, 30.0)]
    held = hold_against(Options(tmp_path, scenario), both, both, shares, 1.0, state)
    assert held.average == pytest.approx(0.1 * (0.25 * 0.1) / (0.25 * 0.1 + 0.5 * 0.3), rel=0.02)
