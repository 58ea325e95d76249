"""`taoemb rollout simulate`: a whole rollout on shoppers whose truth is known, so that its verdict can be judged.

Real: the gateway and its process, Milvus Lite, the events database, the judge's client, the measurement, the
statistics, the engine. Simulated: the encoders (right or wrong with chosen probabilities), the judge (the shop's rules
with chosen errors) and the shoppers.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Candidate
from taoemb.rollout.drive import advance
from taoemb.rollout.measurement.looking import Looker
from taoemb.rollout.measurement.measured import Estimate, Measurement
from taoemb.rollout.plan import Plan
from taoemb.rollout.report.data import stored_report
from taoemb.rollout.report.page import write_report
from taoemb.rollout.simulate.build import Stage, build, demand_of
from taoemb.rollout.simulate.options import Options
from taoemb.rollout.simulate.shoppers import Shoppers, TrafficLog
from taoemb.rollout.simulate.stage import SimulatedBackend, Weather, empty_folder, running_gateway
from taoemb.rollout.simulate.truth import Held, hold_against
from taoemb.rollout.simulate.world import ARMS
from taoemb.rollout.state import RolloutState, begin, from_json, to_json
from taoemb.serving.events.rows import StoredRollout
from taoemb.serving.events.store import EventStore

ROLLOUT = "simulated"
_POLL_S = 0.05
_READY_S = 5.0
_LAST_LOOKS_S = 60.0  # for the judge, after the last shopper has gone
_AFTER_S = 1.0  # of shopping after the end of the rollout


@dataclass(frozen=True)
class SimulationResult:
    """How it ended, beside the truth."""

    state: RolloutState
    held: Held
    estimate: Estimate | None
    """Of the plan's metric at the last look."""
    log: TrafficLog
    looks: int
    seconds: float
    report: Path

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        one = self.estimate
        return {
            "outcome": self.state.phase,
            "reason": self.state.reason,
            "verdict_is": self.held.verdict_is,
            "in_words": self.held.text,
            "true_lift": self.held.lift,
            "true_lift_while_measured": self.held.average,
            "lift_by_the_judge": self.held.judged,
            "effect": one.effect if one else None,
            "low": one.low if one and np.isfinite(one.low) else None,
            "high": one.high if one and np.isfinite(one.high) else None,
            "units": one.n_control + one.n_candidate if one else 0,
            "looks": self.looks,
            "searches": self.log.searches,
            "failed": self.log.failed,
            "mismatched": self.log.mismatched,
            "fallbacks": sum(n for (assigned, served), n in self.log.served.items() if assigned != served),
            "p50_ms": round(self.log.milliseconds(0.5), 2),
            "p99_ms": round(self.log.milliseconds(0.99), 2),
            "seconds": round(self.seconds, 1),
            "report": str(self.report),
        }


def simulate(options: Options) -> SimulationResult:
    """Run one rollout from its start to its verdict, or until no shopper is left.

    Leaves the events database, logs and the report in `options.out`. Raises InputError for a truth that the shop can't
    have, a plan that decides by another metric than item_goodrate, or a folder that is not empty.
    """
    started = time.monotonic()
    if options.plan.metric != "item_goodrate" or options.plan.design != "ab":
        raise InputError("a simulation knows the truth of item_goodrate in an A/B test; the plan's metric must be that")
    empty_folder(options.out)
    stage = build(options)
    demand = demand_of(options, stage)
    with ExitStack() as open_:
        open_.enter_context(Weather(options.scenario, stage.servers, stage.clock))
        backend = SimulatedBackend(
            options.out / "traffic.json", {arm: stage.servers[arm].url for arm in ARMS}, stage.clock
        )
        backend.open(stage.releases["control"])
        gateway = open_.enter_context(running_gateway(options.out, stage.config))
        store = open_.enter_context(EventStore(stage.config.events))
        looker = open_.enter_context(Looker(store, stage.config, options.plan, ()))
        rollout = _Rollout(options.plan, backend, store, looker, _begin(options, stage, store))
        rollout.wait_for_candidate()
        stage.clock.shoppers = shoppers = open_.enter_context(Shoppers(gateway, demand))
        state = rollout.run(shoppers)
        log = shoppers.stop()
        report = write_report(stored_report(store, ROLLOUT, time.time()), options.out / "report")
    measured = looker.last[0] if looker.last else None
    held = hold_against(options, stage.levels, stage.judged, backend.shares, stage.clock(), state)
    return SimulationResult(
        state, held, _estimate(measured, options.plan), log, state.looks, time.monotonic() - started, report
    )


def _begin(options: Options, stage: Stage, store: EventStore) -> StoredRollout:
    candidate = Candidate(stage.releases["candidate"], "simulated")
    state = begin(ROLLOUT, candidate, f"{ROLLOUT}-{options.seed}", time.time(), stage.releases["control"])
    return store.rollouts.create(ROLLOUT, options.plan.model_dump(mode="json"), to_json(state), time.time())


@dataclass
class _Rollout:
    """The rollout under way."""

    plan: Plan
    backend: SimulatedBackend
    store: EventStore
    looker: Looker
    known: StoredRollout

    def tick(self) -> RolloutState:
        """Move it on by a tick, if that works just now."""
        try:
            self.known = advance(self.store.rollouts, self.known, self.plan, self.backend, self.looker, time.time())
        except InputError:
            raise
        except TaoembError:  # an encoder went away between two calls: the next tick goes on from there
            time.sleep(_POLL_S)
        return from_json(self.known.state)

    def wait_for_candidate(self) -> None:
        """Tick until the candidate can take traffic; not for long, as it may be away until shoppers have come."""
        deadline = time.monotonic() + _READY_S
        while self.tick().phase in ("Pending", "Deploying") and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def run(self, shoppers: Shoppers) -> RolloutState:
        """Tick to its end, or until all shoppers are gone and everything they saw is measured."""
        gone_at: float | None = None
        while True:
            state = self.tick()
            if state.ended:
                time.sleep(0 if shoppers.gone else _AFTER_S)
                return state
            if shoppers.gone:
                gone_at = gone_at or time.time()
                if _seen_all(self.looker, gone_at, self.plan) or time.time() - gone_at > _LAST_LOOKS_S:
                    return state
            time.sleep(_POLL_S)


def _seen_all(looker: Looker, gone_at: float, plan: Plan) -> bool:
    """Whether a look came after the last events were ripe and found nothing left to grade."""
    last = looker.last
    return last is not None and last[0].at > gone_at + plan.event_window_s + 1 and not last[0].waiting


def _estimate(measured: Measurement | None, plan: Plan) -> Estimate | None:
    return None if measured is None else measured.find(plan.metric)
