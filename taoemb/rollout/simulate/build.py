"""Builds what a simulated rollout needs before the first shopper comes: shop, encoders, judge, settings."""

from dataclasses import dataclass, field

from taoemb.config import Config, JudgeConfig
from taoemb.data.dataset import open_dataset
from taoemb.data.synth import synthesise
from taoemb.data.truth import Truth
from taoemb.judge.rules import RuleJudge
from taoemb.rollout.simulate.options import Options
from taoemb.rollout.simulate.scenario import Victim
from taoemb.rollout.simulate.servers import LoopbackServer, encoder_application
from taoemb.rollout.simulate.shoppers import Demand, Shoppers
from taoemb.rollout.simulate.stage import Releases, publish_world, release_digests
from taoemb.rollout.simulate.world import ARMS, Levels, World, levels, make_world
from taoemb.secret_file import make_secret
from taoemb.serving.traffic import ArmName


@dataclass
class Clock:
    """The simulation's time for servers that start before the shoppers."""

    shoppers: Shoppers | None = None

    def __call__(self) -> float:
        return 0.0 if self.shoppers is None else self.shoppers.time


@dataclass(frozen=True)
class Stage:
    """What was built before the first shopper."""

    world: World
    levels: dict[ArmName, Levels]
    judged: dict[ArmName, Levels]
    config: Config
    releases: Releases
    collection: str
    servers: dict[Victim, LoopbackServer]
    clock: Clock = field(default_factory=Clock)


def build(options: Options) -> Stage:
    """Make the shop, publish it, and set up the servers. Raises InputError for a truth that the shop can't have."""
    scenario, data = options.scenario, options.data
    if data is None:
        data = options.out / "shop"
        synthesise(data, options.items, 2 * options.queries, options.seed)
    truth = Truth(open_dataset(data, need=("items", "queries")))
    world = make_world(truth, options.queries, options.plan.depth, options.seed)
    judged_QN = scenario.judged_grades(world, options.seed)
    true = {arm: levels(world.grades_QN, world.pages_QK[arm]) for arm in ARMS}
    for arm in ARMS:
        for at in (0.0, 1.0):
            true[arm].wrong_share(scenario.mean(arm, at))
    releases = release_digests(options.seed)
    clock = Clock()
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
    config = _settings(options, servers["judge"].url)
    collection = publish_world(world, config.milvus, releases)
    judged = {arm: levels(judged_QN, world.pages_QK[arm]) for arm in ARMS}
    return Stage(world, true, judged, config, releases, collection, servers, clock)


def _settings(options: Options, judge_url: str) -> Config:
    """The given settings with the simulation's own places; the index is exact, as the truth is."""
    given, out = options.config, options.out
    judge = {"url": f"{judge_url}/v1", "model": "rules", "batch_size": 64, "cache": out / "judgments.db"}
    return given.model_copy(
        update={
            "milvus": given.milvus.model_copy(update={"uri": str(out / "milvus.db"), "index": "FLAT"}),
            "gateway": given.gateway.model_copy(
                update={
                    "traffic": str(out / "traffic.json"),
                    "tester_token_file": make_secret(out / "tester-token").absolute(),
                }
            ),
            "events": given.events.model_copy(
                update={"url": f"sqlite:///{out / 'events.db'}", "url_file": None, "spool": out / "spool"}
            ),
            "heldout_judge": (given.heldout_judge or JudgeConfig()).model_copy(update=judge),
        }
    )


def demand_of(options: Options, stage: Stage) -> Demand:
    """Who comes to the simulated shop."""
    return Demand(
        queries=stage.world.queries,
        shoppers=options.shoppers,
        seed=options.seed,
        k=options.plan.depth,
        concurrency=options.concurrency,
        rate=options.rate,
        grades=stage.world.truth.of_items,
        collections=dict.fromkeys(stage.releases.values(), stage.collection),
        token_file=stage.config.gateway.tester_token_file,
    )
