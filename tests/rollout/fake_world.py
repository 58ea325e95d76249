"""A world of two encoders and a split for tests of the engine: it has its own rules and can be cut off at any call."""

from dataclasses import dataclass, field

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Candidate, Observed
from taoemb.serving.traffic import Design

CONTROL, CANDIDATE = "c0" * 32, "ca" * 32


class Killed(Exception):
    """The process was stopped at this point."""


@dataclass
class World:
    """What stands outside the process and outlives it."""

    ready_after: int | None = 2
    """Observations until the candidate answers; None: it never does."""
    answers: str = CANDIDATE
    control: str = CONTROL
    deployed: str | None = None
    percent: float = 0.0
    waited: int = 0
    read_back: bool = False
    """Whether the candidate's own digest was read since it was deployed."""
    shares: list[float] = field(default_factory=list)
    deploys: int = 0
    lacks: str = ""
    """What the candidate has no room for."""
    fitted: list[float] = field(default_factory=list)


@dataclass
class FakeBackend:
    """The contract of taoemb.rollout.backend over a World; a call can be cut off before or after it acts."""

    world: World
    kill_at: dict[int, bool] = field(default_factory=dict)
    """Call number → whether it is cut after it acted."""
    calls: int = 0
    failing: set[int] = field(default_factory=set)
    """Calls that fail with TaoembError."""

    def _call(self) -> bool:
        number, self.calls = self.calls, self.calls + 1
        if number in self.failing:
            raise TaoembError("the place does not answer")
        if self.kill_at.get(number) is False:
            raise Killed
        return self.kill_at.get(number, False)

    def observe(self) -> Observed:
        killed = self._call()
        world = self.world
        answering = None
        if world.deployed is not None:
            world.waited += 1
            if world.ready_after is not None and world.waited >= world.ready_after:
                answering = world.answers
        if killed:
            raise Killed
        world.read_back |= answering is not None and answering == world.deployed
        return Observed(world.control, answering, world.percent, "" if answering else "starting")

    def deploy(self, candidate: Candidate, rollout: str, salt: str, design: Design) -> None:
        killed = self._call()
        if candidate.location == "nowhere":
            raise InputError("no such release")
        if self.world.deployed is None:
            self.world.deployed, self.world.waited, self.world.read_back = candidate.release, 0, False
            self.world.deploys += 1
        if killed:
            raise Killed

    def fit(self, percent: float) -> str:
        self.world.fitted.append(percent)
        return self.world.lacks

    def shift(self, percent: float) -> None:
        killed = self._call()
        assert self.world.deployed is not None, "traffic to a candidate that is not there"
        assert self.world.read_back, "traffic to a candidate whose digest was not read back"
        self.world.percent = percent
        self.world.shares.append(percent)
        if killed:
            raise Killed

    def promote(self) -> None:
        killed = self._call()
        world = self.world
        if world.deployed is not None:
            assert world.read_back, "promotion of a candidate whose digest was not read back"
            world.control, world.deployed, world.percent = world.deployed, None, 0.0
            world.shares.append(100.0)
        if killed:
            raise Killed

    def rollback(self) -> None:
        killed = self._call()
        self.world.percent, self.world.deployed, self.world.read_back = 0.0, None, False
        if killed:
            raise Killed
