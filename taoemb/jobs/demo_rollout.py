"""The demo's last part: SFT serves simulated shoppers, Retrieval-GRPO is its canary, the held-out judge decides.

Everything is real (encoders, gateway, Milvus Lite, the judge over HTTP, the statistics) but the shoppers. A demo has
some hundred shoppers and not some hundred thousand, so its plan asks for less: that the candidate be no worse by a
margin that a few minutes can show.
"""

import random
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taoemb.config import Config, JudgeConfig
from taoemb.errors import TaoembError
from taoemb.jobs.steps import SERVED_BATCH

if TYPE_CHECKING:
    from taoemb.rollout.local.start import LocalRollout
    from taoemb.rollout.simulate.shoppers import Demand, TrafficLog
    from taoemb.rollout.state import RolloutState

PLAN: Mapping[str, Any] = {
    "steps": [{"percent": 10, "min_units": 40}, {"percent": 50, "min_units": 400}],
    "metric": "item_goodrate",
    "goal": "non-inferiority",
    "margin": 0.05,
    "guardrails": [
        {"metric": "error_rate", "margin": 0.1},
        {"metric": "empty_rate", "margin": 0.1},
        {"metric": "item_goodrate", "slice": "*", "margin": 0.4},
    ],
    "look_every_s": 2,
    "event_window_s": 2,
    "pages_a_look": 100,
    "step_timeout_s": 130,
}
QUERIES = 80  # different ones: each page that is judged costs the judge twenty pairs, each repeated one nothing
RATE = 10.0  # searches a second
AFTERWARDS_S = 2.0  # traffic goes on after the verdict, for all to see that it does


@dataclass(frozen=True)
class DemoRollout:
    """How it ended."""

    state: "RolloutState"
    log: "TrafficLog"
    report: Path
    seconds: float

    def summary(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "verdict": self.state.phase,
            "why": self.state.reason,
            "searches": self.log.searches,
            "failed searches": self.log.failed,
            "pages of mixed releases": self.log.mismatched,
            "p99 of a search in ms": round(self.log.milliseconds(0.99), 1),
            "seconds": round(self.seconds, 1),
            "report": str(self.report),
        }


def roll_out(
    control: Path, candidate: Path, judge: Path, data: Path, milvus: Path, out: Path, config: Config, seed: int
) -> DemoRollout:
    """Roll `candidate` out over `control` in the folder `out`, which is made anew; `data` has items and queries.

    Raises TaoembError when a search failed or a page mixed two releases.
    """
    from taoemb.rollout.local.start import start_local
    from taoemb.rollout.local.watch import watch_local
    from taoemb.rollout.plan import parse_plan
    from taoemb.rollout.report.data import stored_report
    from taoemb.rollout.report.page import write_report
    from taoemb.rollout.simulate.shoppers import Shoppers
    from taoemb.serving.events.store import EventStore

    began = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    settings = _with_milvus(config, milvus)
    _bind((control, candidate), data, settings)
    plan = parse_plan({**PLAN, "slice_queries": str(data.absolute())}, "the demo's plan")
    with _judged(judge, settings, out) as settings:
        there = start_local(out, plan, control, candidate, settings, name="demo", warn=_say)
        with _stopped_at_the_end(there), Shoppers(_gateway(there), _demand(there, data, seed)) as shoppers:
            state = watch_local(there, say=_say, warn=_say)
            time.sleep(AFTERWARDS_S)
            log = shoppers.stop()
        with EventStore(there.config.events) as store:
            report = write_report(stored_report(store, there.name, time.time()), out / "report")
    log.check()
    return DemoRollout(state, log, report, time.monotonic() - began)


def _bind(releases: tuple[Path, ...], data: Path, config: Config) -> None:
    """Bind what is not bound yet; a release whose items are there already costs nothing."""
    from taoemb.encoder.release import load_release
    from taoemb.retrieval.publish import publish

    for folder in releases:
        publish(load_release(folder), data, config.milvus, activate=False)


@contextmanager
def _judged(judge: Path, config: Config, out: Path) -> Iterator[Config]:
    """The settings with the judge served, for as long as the block runs."""
    from taoemb.judge.local import running_judge

    with running_judge(judge, threads=config.judge_server.threads) as url:
        own = config.heldout_judge or JudgeConfig()
        served = {"url": url, "batch_size": SERVED_BATCH, "cache": out.absolute() / "judgments.sqlite"}
        yield config.model_copy(update={"heldout_judge": own.model_copy(update=served)})


@contextmanager
def _stopped_at_the_end(there: "LocalRollout") -> Iterator[None]:
    try:
        yield
    finally:
        there.backend.stop()


def _gateway(there: "LocalRollout") -> str:
    url = there.backend.gateway_url()
    if url is None:
        raise TaoembError(f"{there.backend.folder}: the gateway is not there; see logs/ in it")
    return url


def _demand(there: "LocalRollout", data: Path, seed: int) -> "Demand":
    from taoemb.data.dataset import open_dataset
    from taoemb.data.truth import Truth
    from taoemb.rollout.simulate.shoppers import Demand
    from taoemb.rollout.simulate.shopping import Habits

    shop = open_dataset(data, need=("items", "queries"))
    texts = sorted(set(shop.queries.texts))
    chosen = random.Random(seed).sample(texts, min(QUERIES, len(texts)))
    habits = Habits(returning=0.1, more_pages=0.1)  # each shopper counts once: new ones decide
    return Demand(
        queries=chosen,
        shoppers=1_000_000,
        seed=seed,
        concurrency=4,
        rate=RATE,
        habits=habits,
        grades=Truth(shop).of_items,
        token_file=there.config.gateway.tester_token_file,
    )


def _with_milvus(config: Config, milvus: Path) -> Config:
    return config.model_copy(update={"milvus": config.milvus.model_copy(update={"uri": str(milvus)})})


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)
