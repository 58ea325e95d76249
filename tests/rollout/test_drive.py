"""Ticking from the events database: several drivers, people's requests, and a place that fails now and then."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taoemb.errors import InputError, TaoembError
from taoemb.rollout import drive as driving
from taoemb.rollout.backend import Candidate
from taoemb.rollout.drive import ask, drive, stored
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import RolloutState, begin, to_json
from taoemb.rollout.verdict import Reason, Verdict
from taoemb.serving.events.store import EventStore
from tests.rollout.fake_world import CANDIDATE, CONTROL, FakeBackend, World
from tests.rollout.rollout_rows import open_store
from tests.serving.gateway_shop import wait_until

PLAN = Plan.model_validate({"steps": [{"percent": 5}, {"percent": 50}], "look_every_s": 0.01})
NAME = "r1"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventStore]:
    monkeypatch.setattr(driving, "POLL_S", 0.005)
    with open_store(tmp_path) as opened:
        state = begin(NAME, Candidate(CANDIDATE, "/a"), "salt", time.time())
        opened.rollouts.create(NAME, PLAN.model_dump(mode="json"), to_json(state), time.time())
        yield opened


def goes_forward(state: RolloutState, now: float) -> Verdict:
    last = state.step + 1 == len(PLAN.steps)
    reason = Reason("units", "promote" if last else "next step", f"enough at step {state.step}")
    return Verdict("promote" if last else "continue", [reason], next_step=not last)


def undecided(state: RolloutState, now: float) -> Verdict:
    return Verdict("continue", [Reason("units", "continue", "few")])


def quiet(_: object) -> None:
    pass


def test_two_drivers_at_once_take_each_step_once(store: EventStore) -> None:
    world, ends = World(), []

    def work() -> None:
        ends.append(drive(store.rollouts, NAME, FakeBackend(world), goes_forward, say=quiet, warn=quiet).phase)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ends == ["Promoted"] * 2
    _, _, state = stored(store.rollouts, NAME)
    assert [change.phase for change in state.changes].count("Stepping") == 2
    assert world.control == CANDIDATE


def test_a_request_from_another_process_is_obeyed(store: EventStore) -> None:
    world, ends = World(), []

    def work() -> None:
        ends.append(drive(store.rollouts, NAME, FakeBackend(world), undecided, say=quiet, warn=quiet))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: world.percent == 5)
    ask(store.rollouts, NAME, "rollback", "complaints")
    thread.join(60)
    [state] = ends
    assert state.phase == "RolledBack"
    assert state.reason == "rollback asked for: complaints"
    assert (world.control, world.percent) == (CONTROL, 0)
    with pytest.raises(InputError, match="has ended"):
        ask(store.rollouts, NAME, "promote", "")


def test_what_fails_is_told_once_and_tried_again(store: EventStore) -> None:
    warned: list[str] = []
    backend = FakeBackend(World(), failing={0, 1, 2, 9})
    state = drive(store.rollouts, NAME, backend, goes_forward, say=quiet, warn=warned.append)
    assert state.phase == "Promoted"
    assert warned == ["the place does not answer"] * 2


def test_what_can_not_work_ends_the_driver_and_not_the_rollout(store: EventStore) -> None:
    class Refusing(FakeBackend):
        def shift(self, percent: float) -> None:
            raise InputError("5 %: give whole percents")

    with pytest.raises(InputError, match="whole percents"):
        drive(store.rollouts, NAME, Refusing(World()), goes_forward, say=quiet, warn=quiet)
    _, _, state = stored(store.rollouts, NAME)
    assert state.phase == "Stepping"
    with pytest.raises(InputError, match="no such rollout"):
        stored(store.rollouts, "another")


def test_a_database_that_is_away_is_waited_for(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([TaoembError("the events database is away")] * 2)
    read = store.rollouts.read

    def failing(name: str):
        failure = next(answers, None)
        if failure is not None:
            raise failure
        return read(name)

    monkeypatch.setattr(store.rollouts, "read", failing)
    warned: list[str] = []
    assert drive(store.rollouts, NAME, FakeBackend(World()), goes_forward, say=quiet, warn=warned.append).ended
    assert warned == ["the events database is away"]
