"""From a query to a page: assign an arm, ask its encoder, check the digest, search the collection bound to it.

A candidate that fails is replaced by the control, and the page says so (`assigned` stays, `served` differs). A control
that fails is asked again after a new look at the traffic, and so is the candidate, until patience ends: this is how a
killed encoder, a promotion or a restarted store loses no search.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from taoemb.config import GatewayConfig
from taoemb.errors import InputError
from taoemb.retrieval.milvus import Hit
from taoemb.serving.assignment import assign
from taoemb.serving.gateway.arms import ArmFailure, EncoderClient
from taoemb.serving.gateway.interleave import team_draft
from taoemb.serving.gateway.metrics import GatewayMetrics
from taoemb.serving.gateway.search_pool import SearchPool
from taoemb.serving.gateway.traffic_watch import TrafficWatch
from taoemb.serving.traffic import Arm, ArmName, Traffic

FIRST_PAUSE_S = 0.03
LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True)
class Ask:
    """A search that was let in."""

    request_id: str
    query: str
    unit: str
    k: int
    filter: str
    signals: frozenset[str]
    """Fields of the filter that a collection may lack."""
    forced: ArmName | None
    measured: bool = True
    """A page for a robot, say, is answered and never measured."""


@dataclass(frozen=True)
class Ranking:
    """What one arm answered."""

    arm: ArmName
    release: str
    collection: str
    hits: Sequence[Hit]
    encoder_s: float
    search_s: float


@dataclass(frozen=True)
class Served:
    """What a search came to; without rankings it failed."""

    traffic: Traffic | None
    assigned: ArmName
    rankings: tuple[Ranking, ...] = ()
    items: Sequence[tuple[Hit, ArmName | None]] = ()
    problems: Sequence[str] = field(default=(), repr=False)

    @property
    def served(self) -> str:
        """control, candidate, interleaved or none."""
        if not self.rankings:
            return "none"
        return self.rankings[0].arm if len(self.rankings) == 1 else "interleaved"


class NoCandidate(Exception):
    """A tester asked for a candidate, and there is none."""


class UnknownSignal(InputError):
    """A filter names a signal that the catalogue does not have."""


class Searcher:
    """Answers searches; one a process."""

    def __init__(
        self,
        config: GatewayConfig,
        watch: TrafficWatch,
        encoders: EncoderClient,
        store: SearchPool,
        metrics: GatewayMetrics,
    ) -> None:
        self._config, self._watch, self._encoders, self._store = config, watch, encoders, store
        self._metrics = metrics
        self._with_candidate, self._most_with_candidate = 0, max(1, config.concurrency // 2)

    async def serve(self, ask: Ask) -> Served:
        """A page, or an error after `gateway.patience_s`. Raises NoCandidate and UnknownSignal."""
        problems: dict[str, None] = {}
        try:
            async with asyncio.timeout(self._config.patience_s):
                return await self._keep_trying(ask, problems)
        except TimeoutError:
            traffic = self._watch.current
            assigned = _assigned(ask, traffic) if traffic is not None else "control"
            return Served(traffic, assigned, problems=tuple(problems) or (self._watch.problem,))

    async def _keep_trying(self, ask: Ask, problems: dict[str, None]) -> Served:
        pause, again = FIRST_PAUSE_S, False
        while True:
            traffic = self._watch.current
            if traffic is not None:
                served = await self._try(ask, traffic, again, problems)
                if served is not None:
                    return served
            await self._watch.refresh()
            if self._watch.current is traffic:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            again = True

    async def _try(self, ask: Ask, traffic: Traffic, again: bool, problems: dict[str, None]) -> Served | None:
        """One round over the arms; None when all failed."""
        assigned = _assigned(ask, traffic)
        if traffic.design == "interleaving" and assigned == "candidate" and ask.forced is None:
            plans: list[tuple[ArmName, ...]] = [("control", "candidate"), ("control",)]
        else:
            plans = [(assigned,)] if assigned == "control" else [("candidate",), ("control",)]
        if again and traffic.candidate is not None and ("candidate",) not in plans:
            plans.append(("candidate",))
        for plan in plans:
            try:
                rankings = await self._rank_all(ask, traffic, plan)
            except ArmFailure as failure:
                name = plan[0] if len(plan) == 1 else "interleaved"
                self._metrics.fallbacks.labels(name, failure.reason).inc()
                problems[f"{name}: {failure}"] = None
            else:
                return Served(traffic, assigned, rankings, _merge(ask, rankings))
        return None

    async def _rank_all(self, ask: Ask, traffic: Traffic, plan: tuple[ArmName, ...]) -> tuple[Ranking, ...]:
        if len(plan) == 1:
            return (await self._rank(ask, traffic, plan[0]),)
        ranked = await asyncio.gather(*(self._rank(ask, traffic, name) for name in plan), return_exceptions=True)
        for result in ranked:
            if isinstance(result, BaseException):
                raise result
        return tuple(result for result in ranked if isinstance(result, Ranking))

    async def _rank(self, ask: Ask, traffic: Traffic, name: ArmName) -> Ranking:
        """What one arm answers. A slow candidate is waited for by half of the searches at most, and then rests."""
        arm = _known(traffic, name)
        if name == "control":
            return await self._ranked(ask, arm, name)
        self._store.refuse_resting(arm.release)
        if self._with_candidate >= self._most_with_candidate:
            raise ArmFailure("busy", f"{self._with_candidate} searches wait for the candidate; no more may")
        self._with_candidate += 1
        try:
            return await self._ranked(ask, arm, name)
        finally:
            self._with_candidate -= 1

    async def _ranked(self, ask: Ask, arm: Arm, name: ArmName) -> Ranking:
        began = time.perf_counter()
        vectors_1D = await self._encoders.embed(arm, ask.query, insist=name == "control")
        encoded = time.perf_counter()
        bound = await self._store.bound(arm.release)
        if bound.dimension not in (None, vectors_1D.shape[1]):
            raise ArmFailure(
                "malformed", f"{arm.release[:16]}: {vectors_1D.shape[1]} dimensions, bound to {bound.dimension}"
            )
        if missing := ask.signals - bound.fields:
            if name == "control":
                raise UnknownSignal(f"filters.signals: the catalogue has no {min(missing)}")
            raise ArmFailure("filter", f"collection {bound.collection} has no {min(missing)}")
        hits = await self._store.search(vectors_1D, arm.release, ask.k, ask.filter, name)
        return Ranking(name, arm.release, bound.collection, hits, encoded - began, time.perf_counter() - encoded)


def _assigned(ask: Ask, traffic: Traffic) -> ArmName:
    if ask.forced == "candidate" and traffic.candidate is None:
        raise NoCandidate
    return ask.forced or assign(traffic, ask.unit)


def _known(traffic: Traffic, name: ArmName) -> Arm:
    arm = traffic.arm(name)
    if arm is None:
        raise ArmFailure("unreachable", f"there is no {name}")
    return arm


def _merge(ask: Ask, rankings: Sequence[Ranking]) -> list[tuple[Hit, ArmName | None]]:
    if len(rankings) == 1:
        return [(hit, None) for hit in rankings[0].hits]
    control, candidate = rankings
    return team_draft(control.hits, candidate.hits, ask.k, ask.request_id, key=lambda hit: hit.item_id)
