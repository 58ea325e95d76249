"""The engine against a world with its own rules: stopped anywhere it ends the same, and never moves traffic blindly."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.engine import RolloutState, begin, from_json, tick, to_json, with_request
from taoemb.rollout.plan import Plan, Step
from taoemb.rollout.verdict import Outcome, Reason, Verdict
from tests.rollout.fake_world import CANDIDATE, CONTROL, FakeBackend, Killed, World

STEPS = (5.0, 25.0, 50.0)
TICK_S = 10.0


def a_plan(**changes: object) -> Plan:
    return Plan.model_validate({"steps": [{"percent": p} for p in STEPS], "look_every_s": TICK_S} | changes)


def judge(ends: Outcome, at_step: int):
    """A verdict that depends on nothing but where the rollout stands, as a real one depends on the rows only."""

    def look(state: RolloutState, now: float) -> Verdict:
        if now - state.since < 3 * TICK_S:
            return Verdict("continue", [Reason("units", "continue", "10 of 200 units")])
        if state.step == at_step:
            return Verdict(ends, [Reason("item_goodrate", ends, f"measured at step {state.step}")])
        return Verdict("continue", [Reason("units", "next step", "200 of 200 units")], next_step=True)

    return look


@dataclass
class Driver:
    """Loads the stored state, ticks, stores: what the command line and the controller do."""

    plan: Plan
    backend: FakeBackend
    look: object
    stored: str | dict
    now: float = 1_000.0
    trail: list[RolloutState] = field(default_factory=list)
    kill_store_at: set[int] = field(default_factory=set)
    stores: int = 0

    def run(self, ticks: int = 400) -> RolloutState:
        for _ in range(ticks):
            state = from_json(self.stored)
            if state.ended:
                return state
            self.now += TICK_S
            try:
                after = tick(state, self.plan, self.backend, self.look, self.now)
                self.stores += 1
                if self.stores in self.kill_store_at:
                    raise Killed
                self.stored = to_json(after)
                self.trail.append(after)
            except (Killed, TaoembError):
                continue  # another process starts from what is stored
        raise AssertionError(f"no end after {ticks} ticks: {from_json(self.stored)}")


def drive(plan: Plan, backend: FakeBackend, look, **more) -> tuple[RolloutState, Driver]:
    state = begin("r1", Candidate(CANDIDATE, more.pop("location", "/releases/a")), "salt", 1_000.0)
    driver = Driver(plan, backend, look, to_json(state), **more)
    return driver.run(), driver


def test_a_good_candidate_takes_every_step_and_becomes_the_control() -> None:
    backend = FakeBackend(World())
    state, _ = drive(a_plan(), backend, judge("promote", 2))
    assert state.phase == "Promoted"
    assert backend.world.shares == [*STEPS, 100.0]
    assert backend.world.control == CANDIDATE
    assert state.reason == "measured at step 2"
    phases = [change.phase for change in state.changes]
    assert phases == ["Pending", "Deploying", *["Stepping"] * 3, "Promoting", "Promoted"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_bad_candidate_is_rolled_back_at_any_step(step: int) -> None:
    backend = FakeBackend(World())
    state, _ = drive(a_plan(), backend, judge("rollback", step))
    assert state.phase == "RolledBack"
    assert (backend.world.control, backend.world.deployed, backend.world.percent) == (CONTROL, None, 0)
    assert backend.world.shares == list(STEPS[: step + 1])


scenarios = st.fixed_dictionaries(
    {
        "ends": st.sampled_from(["promote", "rollback", "inconclusive"]),
        "at_step": st.integers(0, 2),
        "ready_after": st.sampled_from([1, 2, 7, None]),
    }
)


@settings(max_examples=200, deadline=None)
@given(
    scenario=scenarios,
    kills=st.dictionaries(st.integers(0, 60), st.booleans(), max_size=25),
    failing=st.sets(st.integers(0, 60), max_size=10),
    kill_stores=st.sets(st.integers(1, 60), max_size=15),
)
def test_stopped_at_any_point_it_ends_the_same(scenario, kills, failing, kill_stores) -> None:
    def run(**trouble) -> tuple[RolloutState, World]:
        world = World(ready_after=scenario["ready_after"])
        backend = FakeBackend(world, kill_at=trouble.get("kills", {}), failing=trouble.get("failing", set()))
        look = judge(scenario["ends"], scenario["at_step"])
        state, _ = drive(a_plan(), backend, look, kill_store_at=trouble.get("kill_stores", set()))
        return state, world

    calm, calm_world = run()
    state, world = run(kills=kills, failing=failing, kill_stores=kill_stores)
    assert (state.phase, state.step) == (calm.phase, calm.step)
    assert (world.control, world.deployed, world.percent) == (calm_world.control, None, 0.0)
    assert sorted(set(world.shares)) == world.shares or state.phase == "Promoted", "shares only grow"
    assert set(world.shares) == set(calm_world.shares)
    assert [change.phase for change in state.changes] == [change.phase for change in calm.changes]


def test_a_candidate_that_never_answers_gets_no_traffic_and_goes() -> None:
    backend = FakeBackend(World(ready_after=None))
    state, _ = drive(a_plan(ready_timeout_s=100), backend, judge("promote", 2))
    assert state.phase == "RolledBack"
    assert "not ready within 100 s" in state.reason
    assert backend.world.shares == []
    assert backend.world.deployed is None


def test_a_candidate_with_another_digest_gets_no_traffic() -> None:
    backend = FakeBackend(World(answers="ff" * 32))
    state, _ = drive(a_plan(ready_timeout_s=100), backend, judge("promote", 2))
    assert state.phase == "RolledBack"
    assert "ffffffffffffffff" in state.reason
    assert backend.world.shares == []


def test_a_candidate_that_falls_silent_gets_no_more_traffic_and_is_rolled_back() -> None:
    world = World()
    backend = FakeBackend(world)

    def look(state: RolloutState, now: float) -> Verdict:
        if state.step == 1:
            world.ready_after = None
        return Verdict("continue", [Reason("units", "next step", "enough")], next_step=True)

    state, _ = drive(a_plan(ready_timeout_s=100), backend, look)
    assert state.phase == "RolledBack"
    assert "did not answer for 100 s" in state.reason
    assert world.shares == [5.0, 25.0], "only the step under way when it fell silent"


def test_a_control_that_changes_under_the_rollout_ends_it() -> None:
    world = World()

    def look(state: RolloutState, now: float) -> Verdict:
        world.control = "dd" * 32
        return Verdict("continue", [Reason("units", "continue", "few")])

    state, _ = drive(a_plan(), FakeBackend(world), look)
    assert state.phase == "Failed"
    assert "any more" in state.reason
    assert world.deployed is None


def test_a_candidate_that_is_the_control_already_is_done() -> None:
    backend = FakeBackend(World(control=CANDIDATE))
    state, _ = drive(a_plan(), backend, judge("rollback", 0))
    assert state.phase == "Promoted"
    assert backend.world.deploys == 0


def test_what_can_not_be_deployed_fails_with_the_reason() -> None:
    backend = FakeBackend(World())
    state, _ = drive(a_plan(), backend, judge("promote", 2), location="nowhere")
    assert state.phase == "Failed"
    assert "no such release" in state.reason


def test_a_failed_look_is_told_and_the_next_one_decides() -> None:
    looks = []

    def look(state: RolloutState, now: float) -> Verdict:
        looks.append(now)
        if len(looks) < 4:
            raise TaoembError("the events database is away")
        return judge("promote", 2)(state, now)

    state, driver = drive(a_plan(), FakeBackend(World()), look)
    assert state.phase == "Promoted"
    assert any("events database is away" in one.message for one in driver.trail)


def test_a_step_that_can_not_be_measured_ends_in_time() -> None:
    def look(state: RolloutState, now: float) -> Verdict:
        raise TaoembError("no database")

    state, _ = drive(a_plan(step_timeout_s=200), FakeBackend(World()), look)
    assert state.phase == "Inconclusive"
    assert "longer than 200 s" in state.reason


def test_inconclusive_can_hold_the_traffic_until_a_person_decides() -> None:
    backend = FakeBackend(World())
    state, driver = drive(a_plan(on_inconclusive="hold"), backend, judge("inconclusive", 1))
    assert (state.phase, state.ended, backend.world.percent) == ("Inconclusive", True, 25.0)
    driver.stored = to_json(with_request(state, "promote", "the team looked at it", driver.now))
    state = driver.run()
    assert state.phase == "Promoted"
    assert any("the team looked at it" in change.reason for change in state.changes)


@pytest.mark.parametrize("phase", ["Pending", "Deploying", "Stepping"])
@pytest.mark.parametrize(("action", "end"), [("promote", "Promoted"), ("rollback", "RolledBack")])
def test_a_person_can_end_it_in_any_phase(phase: str, action: str, end: str) -> None:
    backend = FakeBackend(World(ready_after=4))
    plan = a_plan()
    state = begin("r1", Candidate(CANDIDATE, "/a"), "salt", 0.0)
    driver = Driver(plan, backend, judge("inconclusive", 2), to_json(state))
    while state.phase != phase:
        driver.now += TICK_S
        state = tick(state, plan, backend, driver.look, driver.now)
    driver.stored = to_json(with_request(state, action, "we know better", driver.now))
    done = driver.run()
    assert done.phase == end
    assert any("asked for: we know better" in change.reason for change in done.changes)


def test_a_promotion_waits_for_the_digest_even_of_a_held_candidate() -> None:
    world = World()
    backend = FakeBackend(world)
    state, driver = drive(a_plan(on_inconclusive="hold"), backend, judge("inconclusive", 1))
    world.ready_after = None
    driver.stored = to_json(with_request(state, "promote", "", driver.now))
    with pytest.raises(AssertionError, match="no end"):
        driver.run(20)
    assert "waiting for the candidate" in from_json(driver.stored).message
    world.ready_after = 1
    assert driver.run().phase == "Promoted"


def test_a_request_that_comes_too_late_is_refused() -> None:
    state, _ = drive(a_plan(), FakeBackend(World()), judge("promote", 2))
    with pytest.raises(InputError, match="has ended"):
        with_request(state, "rollback", "", 0.0)
    with pytest.raises(InputError, match="already"):
        with_request(replace(state, phase="RollingBack"), "rollback", "", 0.0)


def test_a_step_counts_its_time_from_when_the_share_was_seen() -> None:
    seen: list[float] = []

    def look(state: RolloutState, now: float) -> Verdict:
        seen.append(now - state.since)
        return judge("promote", 0)(state, now)

    world = World(ready_after=1)
    backend = FakeBackend(world, failing=set(range(5, 40)))  # the place refuses to shift for a long time
    state, driver = drive(a_plan(steps=[Step(percent=50).model_dump()]), backend, look)
    assert state.phase == "Promoted"
    assert seen[0] <= TICK_S
    assert driver.now > 1_000 + 30 * TICK_S


@settings(max_examples=50, deadline=None)
@given(scenario=scenarios)
def test_the_stored_form_is_the_whole_state(scenario) -> None:
    import json

    backend = FakeBackend(World(ready_after=scenario["ready_after"]))
    _, driver = drive(a_plan(ready_timeout_s=100), backend, judge(scenario["ends"], scenario["at_step"]))
    for state in driver.trail:
        assert from_json(json.loads(json.dumps(to_json(state)))) == state


def test_no_share_and_no_promotion_without_the_capacity_for_it() -> None:
    world = World(lacks="1 of the 3 pods that the candidate needs are ready")
    state, _ = drive(a_plan(ready_timeout_s=100), FakeBackend(world), judge("promote", 2))
    assert (state.phase, world.shares) == ("RolledBack", [])
    assert state.changes[-1].reason == f"the candidate had too little capacity for 100 s: {world.lacks}"


class Failing(FakeBackend):
    """Fails at every call of one kind, as a place does that refuses it for good."""

    broken = ""

    def _refuse(self, call: str) -> None:
        if call == self.broken:
            raise TaoembError(f"{call} is refused")

    def observe(self):
        self._refuse("observe")
        return super().observe()

    def deploy(self, *given) -> None:
        self._refuse("deploy")
        super().deploy(*given)

    def shift(self, percent: float) -> None:
        self._refuse("shift")
        super().shift(percent)

    def promote(self) -> None:
        self._refuse("promote")
        super().promote()


def until(driver: Driver, true, ticks: int = 100) -> RolloutState:
    """The stored state once it fulfils a condition."""
    for _ in range(ticks):
        state = from_json(driver.stored)
        if true(state):
            return state
        driver.now += TICK_S
        try:
            driver.stored = to_json(tick(state, driver.plan, driver.backend, driver.look, driver.now))
        except TaoembError:
            continue
    raise AssertionError(f"still {from_json(driver.stored)}")


def begun(look, **changes: object) -> Driver:
    state = begin("r1", Candidate(CANDIDATE, "/a"), "salt", 1_000.0)
    return Driver(a_plan(**changes), Failing(World()), look, to_json(state), now=1_000.0)


PHASES = {"observe": "Stepping", "deploy": "Deploying", "shift": "Stepping", "promote": "Promoting"}


@pytest.mark.parametrize("call", PHASES)
def test_a_call_that_fails_for_ever_keeps_nobody_from_rolling_back(call: str) -> None:
    driver = begun(judge("promote", 2))
    driver.backend.broken = call if call != "observe" else ""
    until(driver, lambda state: state.phase == PHASES[call])
    driver.backend.broken = call
    driver.stored = to_json(with_request(from_json(driver.stored), "rollback", "complaints", driver.now))
    assert until(driver, lambda state: state.phase == "RollingBack", 2).reason == "rollback asked for: complaints"
    driver.backend.broken = ""
    assert until(driver, lambda state: state.ended, 2).phase == "RolledBack"
    assert (driver.backend.world.percent, driver.backend.world.deployed) == (0, None)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("observe", "step 1 lasted longer than 200 s (observe is refused)"),
        ("shift", "step 1 lasted longer than 200 s (shift is refused)"),
        ("deploy", "the candidate was not ready within 100 s: deploy is refused"),
        ("promote", "the candidate could not be promoted within 200 s: promote is refused"),
    ],
)
def test_a_call_that_fails_for_ever_ends_in_time(call: str, said: str) -> None:
    driver = begun(judge("promote", 2), step_timeout_s=200, ready_timeout_s=100)
    driver.backend.broken = call if call != "observe" else ""
    until(driver, lambda state: state.phase == PHASES[call])
    driver.backend.broken = call
    assert until(driver, lambda state: state.phase == "RollingBack").reason == said


@pytest.mark.parametrize("call", ["observe", "shift"])
def test_what_is_served_is_measured_while_its_place_fails(call: str) -> None:
    """The first step is served; the second one's share is refused, and the first turns out to do harm."""
    seen: list[int] = []

    def look(state: RolloutState, now: float) -> Verdict:
        seen.append(state.step)
        harm = len(seen) > 3
        text = "it does harm" if harm else "enough"
        outcome: Outcome = "rollback" if harm else "continue"
        return Verdict(outcome, [Reason("error_rate", outcome, text)], next_step=not harm)

    driver = begun(look)
    until(driver, lambda state: state.step == 1)
    driver.backend.broken = call
    assert "it does harm" in until(driver, lambda state: state.phase == "RollingBack").reason
    assert set(seen) == {0}, "what was never put in place is not measured"


def test_a_control_that_is_never_seen_ends_what_never_began() -> None:
    driver = begun(judge("promote", 2), ready_timeout_s=100)
    driver.backend.broken = "observe"
    assert (
        until(driver, lambda state: state.ended).reason == "the control could not be seen for 100 s: observe is refused"
    )


def test_a_state_of_another_version_is_read_as_far_as_it_is_known() -> None:
    state = replace(begin("r1", Candidate(CANDIDATE, "/a"), "salt", 1.0), request=None)
    tree = to_json(with_request(state, "rollback", "", 2.0))
    newer = {**tree, "version": 9, "paused_by": "x", "request": tree["request"] | {"who": "x"}}
    newer["changes"] = [one | {"by": "x"} for one in tree["changes"]]
    newer["candidate"] = tree["candidate"] | {"recipe": "x"}
    assert from_json(newer) == from_json(tree)
    for strange in ({**tree, "phase": "Shadowing"}, {**tree, "changes": [1]}, {"name": "r1"}):
        with pytest.raises(InputError, match="ask for a rollback, which is still obeyed"):
            from_json(strange)
