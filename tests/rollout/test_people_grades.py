"""People's grades of pages drawn by hash: they count as they come in, and they put a biased judge right."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.data.dataset import open_dataset
from taoemb.data.schemas import JUDGMENTS
from taoemb.errors import InputError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.measurement.for_people import write_for_people, write_waiting
from taoemb.rollout.measurement.looking import NOTHING
from taoemb.rollout.measurement.measure import measure
from taoemb.rollout.measurement.measured import Measurement, from_json
from taoemb.rollout.measurement.measured import to_json as measured_json
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.people import People, is_asked
from taoemb.rollout.measurement.slicing import Slicer, same_query
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import begin, to_json
from taoemb.rollout.verdict import Standing, decide
from taoemb.serving.events.store import EventStore
from tests.rollout.rollout_rows import RELEASES, ROLLOUT, SALT, START, Rows, grade, make_rows, open_store, write

NOW = START + 100_000


@pytest.fixture
def shop(tmp_path: Path) -> tuple[EventStore, Rows, Plan]:
    """A recorded rollout, graded by the judge, and an empty folder of human judgments."""
    rows = make_rows(3, 900, percents=(50.0,))
    rows.grades = {one: [value or 0.0 for value in values] for one, values in rows.grades.items()}
    store = open_store(tmp_path)
    write(store, rows)
    grade(store, rows, list(rows.grades))
    folder = tmp_path / "people"
    folder.mkdir()
    plan = Plan(depth=3, human=folder, human_share=0.3, guardrails=())
    everything = store.pages([row["request_id"] for row in rows.pages])
    write_for_people(list(everything.values()), plan.depth, folder)
    judge(folder, [])
    return store, rows, plan


def judge(folder: Path, pairs: list[tuple[str, str, int]]) -> None:
    table = pa.Table.from_pylist(
        [{"query_id": query, "item_id": item, "grade": value, "source": "shop"} for query, item, value in pairs],
        JUDGMENTS,
    )
    pq.write_table(table, folder / "judgments.parquet")


def judge_everything(folder: Path, good: bool) -> None:
    pairs = pq.read_table(folder / "pairs.parquet").to_pylist()
    judge(folder, [(pair["query_id"], pair["item_id"], 4 if good else 1) for pair in pairs])


def look(store: EventStore, plan: Plan, seen: Observations | None = None) -> tuple[Observations, Measurement]:
    people = None if plan.human is None else People(plan.human)
    seen = seen or Observations(ROLLOUT, SALT, plan, people=people)
    seen.read(store, NOW)
    return seen, measure(plan, seen, Slicer(plan), RELEASES, NOW, NOTHING)


def test_graded_metrics_wait_for_people_and_go_on_when_they_come(shop: tuple[EventStore, Rows, Plan]) -> None:
    store, _, plan = shop
    seen, before = look(store, plan)
    assert plan.human is not None
    assert before.waiting_for_people == len(seen.for_people()) > 20
    judge_everything(plan.human, good=True)
    _, after = look(store, plan, seen)
    first, second = before.find("item_goodrate"), after.find("item_goodrate")
    assert first is not None
    assert second is not None
    assert after.waiting_for_people == 0
    assert before.one_look is None
    assert after.one_look is not None
    assert -1 <= after.one_look[0] <= after.one_look[1] <= 1
    assert "ppi-python" in {reason.check for reason in decide(plan, Standing(0, 1.0), after).reasons}
    assert from_json(json.loads(json.dumps(measured_json(after)))) == after
    assert second.n_control + second.n_candidate > 5 * (first.n_control + first.n_candidate)
    assert look(store, plan)[1] == after  # a process that starts over
    clicks = before.find("click_rate"), after.find("click_rate")
    assert clicks[0] == clicks[1]


def test_with_everybody_asked_only_people_count(shop: tuple[EventStore, Rows, Plan]) -> None:
    store, _, plan = shop
    assert plan.human is not None
    judge_everything(plan.human, good=True)
    seen, found = look(store, plan.model_copy(update={"human_share": 1.0}))
    asked = seen.flag("asked")
    assert np.array_equal(asked, seen.flag("sampled"))
    full = seen.number("human_item_goodrate")[asked]
    shown = found.find("item_goodrate")
    assert shown is not None
    assert shown.candidate is not None
    measured = asked & ~np.isnan(seen.number("item_goodrate"))
    candidate = measured & seen.flag("candidate")
    assert shown.candidate == pytest.approx(seen.number("human_item_goodrate")[candidate].mean())
    assert set(np.round(full, 6)) <= {0.0, round(1 / 3, 6), round(2 / 3, 6), 1.0}


def test_without_people_nothing_changes(shop: tuple[EventStore, Rows, Plan]) -> None:
    store, _, plan = shop
    seen, found = look(store, plan.model_copy(update={"human": None}))
    assert not seen.flag("asked").any()
    assert found.waiting_for_people == 0


def test_what_is_written_for_people_is_a_dataset_of_the_drawn_pages(
    shop: tuple[EventStore, Rows, Plan], tmp_path: Path
) -> None:
    store, rows, plan = shop
    seen, _ = look(store, plan)
    waiting = store.pages([page.request_id for page in seen.for_people()])
    written = open_dataset(write_for_people(list(waiting.values()), plan.depth, tmp_path / "out"), need=("pairs",))
    assert written.pairs is not None
    shown = {item["item_id"] for page in waiting.values() for item in page.items[: plan.depth]}
    assert set(written.items.ids.to_pylist()) == shown
    assert {text.casefold() for text in written.queries.texts} <= {row["query"].casefold() for row in rows.pages}


def test_the_pages_that_wait_are_found_from_the_record(shop: tuple[EventStore, Rows, Plan], tmp_path: Path) -> None:
    store, _, plan = shop
    state = to_json(begin(ROLLOUT, Candidate("c" * 64, "release"), SALT, START))
    store.rollouts.create(ROLLOUT, plan.model_dump(mode="json"), state, START)
    assert write_waiting(store, ROLLOUT, tmp_path / "out") == tmp_path / "out"
    seen, _ = look(store, plan)
    queries = pq.read_table(tmp_path / "out" / "queries.parquet").column("text").to_pylist()
    assert {same_query(text) for text in queries} == {same_query(page.query) for page in seen.for_people()}
    with pytest.raises(InputError, match="elsewhere"):
        write_waiting(store, "elsewhere", tmp_path / "out")


def test_a_folder_without_judgments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"judgments\.parquet"):
        People(tmp_path)


def test_several_people_are_averaged_and_a_missing_item_leaves_the_page_open(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    rows = make_rows(1, 40)
    write(store, rows)
    page = next(
        page
        for page in store.pages([row["request_id"] for row in rows.pages]).values()
        if len({item["item_id"] for item in page.items[:2]}) == 2
    )
    folder = write_for_people([page], 10, tmp_path / "people")
    first, second = (item["item_id"] for item in page.items[:2])
    judge(folder, [("q0", first, 4), ("q0", first, 1)])
    people = People(folder)
    assert people.relevance(page.query.upper(), [first]) == [0.5]
    assert people.relevance(page.query, [first, "elsewhere"]) is None
    judge(folder, [("q0", first, 4), ("q0", first, 1), ("q0", second, 2)])
    people.refresh()
    assert people.relevance(page.query, [first, second]) == pytest.approx([0.5, 1 / 3])


def test_asking_is_a_matter_of_chance_that_stays() -> None:
    asked = [is_asked("salt", f"u{number}", 0.2) for number in range(20_000)]
    assert abs(np.mean(asked) - 0.2) < 0.02
    assert asked[:100] == [is_asked("salt", f"u{number}", 0.2) for number in range(100)]
