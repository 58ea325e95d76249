"""`taoemb rollout simulate`: a whole rollout on shoppers whose truth is known, so that its verdict can be judged.

Real: the gateway and its process, Milvus Lite, the events database, the judge's client, the measurement, the
statistics, the engine. Simulated: the encoders (right or wrong with chosen probabilities), the judge (the shop's rules
with chosen errors) and the shoppers.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taoemb.config import Config, EventsConfig, GatewayConfig, JudgeConfig, MilvusConfig
from taoemb.data.dataset import open_dataset
from taoemb.data.synth import synthesise
from taoemb.data.truth import Truth
from taoemb.errors import InputError
from taoemb.judge.rules import RuleJudge
from taoemb.rollout.backend import Candidate
from taoemb.rollout.drive import advance, stored
from taoemb.rollout.looking import Looker
from taoemb.rollout.measured import Estimate, Measurement
from taoemb.rollout.plan import Guardrail, Plan, SliceRule, Step
from taoemb.rollout.report import write_report
from taoemb.rollout.report_data import stored_report
from taoemb.rollout.shoppers import Demand, Shoppers, TrafficLog
from taoemb.rollout.simulate_scenario import Scenario, Victim
from taoemb.rollout.simulate_servers import LoopbackServer, encoder_application
from taoemb.rollout.simulate_stage import (
    Releases,
    SimulatedBackend,
    Weather,
    empty_folder,
    publish_world,
    release_digests,
    running_gateway,
)
from taoemb.rollout.simulate_truth import Held, hold_against
from taoemb.rollout.simulate_world import ARMS, Levels, World, levels, make_world
from taoemb.rollout.state import RolloutState, begin, to_json
from taoemb.serving.store import EventStore
from taoemb.serving.traffic import ArmName

ROLLOUT = "simulated"
PLAN = Plan(
    steps=(Step(percent=10, min_units=100), Step(percent=50, min_units=200)),
    depth=5,
    guardrails=(Guardrail(metric="error_rate", margin=0.05), Guardrail(metric="empty_rate", margin=0.05)),
    slices=(
        SliceRule(name="negation", pattern=r"\b(not?|non|without)\b"),
        SliceRule(name="question", pattern=r"^(what|which|how)\b"),
    ),
    look_every_s=1.0,
    event_window_s=2.0,
)
"""The plan of a simulation that is given none."""
_POLL_S = 0.05
_LAST_LOOKS_S = 60.0  # for the judge, after the last shopper has gone
_AFTER_S = 1.0  # of shopping after the end of the rollout


@dataclass(frozen=True)
class Options:
    """What `taoemb rollout simulate` is asked for.

    Options of the command: --out DIR, --data DIR (a generated shop; default: one is generated), --plan FILE,
    --shoppers N, --concurrency N, --rate N, --seed N, --lift X, --drift X, --novelty X, --quality X, --judge-delay S,
    --judge-flips X, --judge-prejudice X, --outage VICTIM:FROM-TO (repeatable).
    """

    out: Path
    scenario: Scenario
    plan: Plan = PLAN
    data: Path | None = None
    shoppers: int = 4000
    queries: int = 150
    items: int = 1500
    concurrency: int = 8
    rate: float = 0.0
    """Searches a second; 0: as fast as they are answered."""
    seed: int = 0


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


@dataclass
class _Clock:
    """The simulation's time for servers that start before the shoppers."""

    shoppers: Shoppers | None = None

    def __call__(self) -> float:
        return 0.0 if self.shoppers is None else self.shoppers.time


@dataclass(frozen=True)
class _Stage:
    """What was built before the first shopper."""

    world: World
    levels: dict[ArmName, Levels]
    judged: dict[ArmName, Levels]
    config: Config
    releases: Releases
    collection: str
    servers: dict[Victim, LoopbackServer]
    clock: _Clock = field(default_factory=_Clock)


def simulate(options: Options) -> SimulationResult:
    """Run one rollout from its start to its verdict, or until no shopper is left.

    Leaves the events database, logs and the report in `options.out`. Raises InputError for a truth that the shop can't
    have, a plan that decides by another metric than item_goodrate, or a folder that is not empty.
    """
    started = time.monotonic()
    if options.plan.metric != "item_goodrate" or options.plan.design != "ab":
        raise InputError("a simulation knows the truth of item_goodrate in an A/B test; the plan's metric must be that")
    empty_folder(options.out)
    stage = _build(options)
    demand = _demand(options, stage)
    with ExitStack() as open_:
        open_.enter_context(Weather(options.scenario, stage.servers, stage.clock))
        backend = SimulatedBackend(
            options.out / "traffic.json", {arm: stage.servers[arm].url for arm in ARMS}, stage.clock
        )
        backend.open(stage.releases["control"])
        gateway = open_.enter_context(running_gateway(options.out, stage.config))
        store = open_.enter_context(EventStore(stage.config.events))
        looker = open_.enter_context(Looker(store, stage.config, options.plan, ()))
        stage.clock.shoppers = shoppers = open_.enter_context(Shoppers(gateway, demand))
        state = _roll_out(options, stage, backend, store, looker, shoppers)
        log = shoppers.stop()
        report = write_report(stored_report(store, ROLLOUT, time.time()), options.out / "report")
    measured = looker.last[0] if looker.last else None
    held = hold_against(options, stage.levels, stage.judged, backend.shares, stage.clock(), state)
    return SimulationResult(
        state, held, _estimate(measured, options.plan), log, state.looks, time.monotonic() - started, report
    )


def _build(options: Options) -> _Stage:
    out, scenario = options.out, options.scenario
    data = options.data
    if data is None:
        data = out / "shop"
        synthesise(data, options.items, 2 * options.queries, options.seed)
    truth = Truth(open_dataset(data, need=("items", "queries")))
    world = make_world(truth, options.queries, options.plan.depth, options.seed)
    judged_QN = scenario.judged_grades(world, options.seed)
    true = {arm: levels(world.grades_QN, world.pages_QK[arm]) for arm in ARMS}
    for arm in ARMS:
        for at in (0.0, 1.0):
            true[arm].wrong_share(scenario.mean(arm, at))
    releases = release_digests(options.seed)
    clock = _Clock()
    row_of = {text: row for row, text in enumerate(world.queries)}
    servers: dict[Victim, LoopbackServer] = {
        arm: LoopbackServer(
            encoder_application(
                releases[arm],
                row_of,
                world.query_vectors_QD[arm],
                lambda arm=arm: true[arm].wrong_share(scenario.mean(arm, clock())),  # type: ignore[misc]
                options.seed,
            )
        )
        for arm in ARMS
    }
    opinion = RuleJudge(
        truth,
        lambda query, row, grade: int(judged_QN[row_of[query], row]),
        f"rules-{options.seed}-{scenario.judge_flips}-{scenario.judge_prejudice}",
        scenario.judge_delay_s,
    )
    servers["judge"] = LoopbackServer(opinion.application())
    config = _settings(out, options, servers["judge"].url)
    collection = publish_world(world, config.milvus, releases)
    judged = {arm: levels(judged_QN, world.pages_QK[arm]) for arm in ARMS}
    return _Stage(world, true, judged, config, releases, collection, servers, clock)


def _settings(out: Path, options: Options, judge_url: str) -> Config:
    return Config(
        milvus=MilvusConfig(uri=str(out / "milvus.db"), index="FLAT"),
        gateway=GatewayConfig(traffic=str(out / "traffic.json"), poll_s=0.1, encoder_timeout_s=5.0),
        events=EventsConfig(url=f"sqlite:///{out / 'events.db'}", spool=out / "spool", flush_s=0.1),
        heldout_judge=JudgeConfig(
            url=f"{judge_url}/v1", model="rules", batch_size=64, cache=out / "judgments.db", wait_s=5.0
        ),
    )


def _demand(options: Options, stage: _Stage) -> Demand:
    return Demand(
        queries=stage.world.queries,
        shoppers=options.shoppers,
        seed=options.seed,
        k=options.plan.depth,
        concurrency=options.concurrency,
        rate=options.rate,
        grades=stage.world.truth.of_items,
        collections=dict.fromkeys(stage.releases.values(), stage.collection),
    )


def _roll_out(
    options: Options, stage: _Stage, backend: SimulatedBackend, store: EventStore, looker: Looker, shoppers: Shoppers
) -> RolloutState:
    """Tick the rollout to its end, or until all shoppers are gone and everything they saw is measured."""
    candidate = Candidate(stage.releases["candidate"], "simulated")
    state = begin(ROLLOUT, candidate, f"{ROLLOUT}-{options.seed}", time.time(), stage.releases["control"])
    known = store.rollouts.create(ROLLOUT, options.plan.model_dump(mode="json"), to_json(state), time.time())
    gone_at: float | None = None
    while True:
        known = advance(store.rollouts, known, options.plan, backend, looker, time.time())
        _, _, state = stored(store.rollouts, ROLLOUT)
        if state.ended:
            time.sleep(0 if shoppers.gone else _AFTER_S)
            return state
        if shoppers.gone:
            gone_at = gone_at or time.time()
            if _seen_all(looker, gone_at, options.plan) or time.time() - gone_at > _LAST_LOOKS_S:
                return state
        time.sleep(_POLL_S)


def _seen_all(looker: Looker, gone_at: float, plan: Plan) -> bool:
    """Whether a look came after the last events were ripe and found nothing left to grade."""
    last = looker.last
    return last is not None and last[0].at > gone_at + plan.event_window_s + 1 and not last[0].waiting


def _estimate(measured: Measurement | None, plan: Plan) -> Estimate | None:
    return None if measured is None else measured.find(plan.metric)
