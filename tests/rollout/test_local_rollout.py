"""The loop on one machine through the real command line: encoders, gateway, judge, verdict, no search that fails."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from taoemb.cli.main import main
from taoemb.config import MilvusConfig
from taoemb.encoder.release import Release
from taoemb.retrieval.milvus import MilvusStore
from taoemb.rollout.local.start import LocalRollout, open_local
from taoemb.rollout.simulate.shoppers import Demand, Shoppers, TrafficLog
from tests.judge.stub import Stub, serving
from tests.serving.gateway_shop import ITEMS, QUERIES, Shop, make_shop, wait_until

GOOD, BAD = (0.0, 0.0, 0.1, 0.9), (0.9, 0.1, 0.0, 0.0)
PLAN = {
    "steps": [{"percent": 30, "min_units": 10}, {"percent": 50, "min_units": 20}],
    "guardrails": [{"metric": "empty_rate", "margin": 0.5}],
    "look_every_s": 0.5,
    "step_timeout_s": 300,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"))


def judge_that_likes(release: Release) -> Callable[[str, str], tuple[float, ...]]:
    """Items that this release ranks among its first ten are good, all others bad."""
    items, queries = release.item_encoder(), release.query_encoder()
    titles = [item["title"] for item in ITEMS]
    template = items.item_template
    vectors_ID = items.encode([template.render(item) for item in ITEMS], "item")
    best = np.argsort(-(queries.encode(QUERIES, "query") @ vectors_ID.T), axis=1)[:, :10]
    good = {query: {titles[row] for row in rows} for query, rows in zip(QUERIES, best, strict=True)}

    def grade(query: str, item: str) -> tuple[float, ...]:
        return GOOD if item.splitlines()[0].removeprefix("title: ") in good[query] else BAD

    return grade


def taoemb(*words: object, exits: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == exits


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A folder whose processes end with the test."""
    folder = tmp_path / "rollout"
    yield folder
    if (folder / "processes.json").exists():
        open_local(folder).backend.stop()
        assert not [
            one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())
        ]


def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    tree = {"gateway": {"poll_s": 0.1, "patience_s": 60}, "milvus": {"index": "FLAT"}, "encoder_server": {"threads": 1}}
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.mark.slow
def test_a_better_candidate_is_promoted_and_a_worse_one_rolled_back(
    shop: Shop, tmp_path: Path, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    releases, folder = shop.releases, running
    milvus = shop.copy(tmp_path)
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN))
    stub = Stub(grade=judge_that_likes(releases.query_only))
    with serving(stub) as judge_url:
        common = ["--plan", plan, "--dir", folder, "--milvus", milvus, "--judge-url", judge_url]
        common += ["--config", settings(tmp_path), "--json"]
        taoemb("rollout", "start", "--control", releases.base.path, "--candidate", releases.query_only.path, *common)
        there = open_local(folder)
        gateway = there.backend.gateway_url()
        assert json.loads(capsys.readouterr().out)["gateway"] == gateway
        token = there.config.gateway.tester_token_file
        assert token.stat().st_mode & 0o077 == 0, "nobody else may read it"
        demand = Demand(QUERIES, shoppers=1_000_000, rate=40, collections=shop.collections, token_file=token)
        with Shoppers(gateway, demand) as shoppers, killed(there, releases.base):
            taoemb("rollout", "watch", "--dir", folder)
        check(shoppers.log)
        said = capsys.readouterr().out
        assert "Promoted" in said
        assert "step 2/2 (50 %)" in said
        old, new = releases.base.manifest.digest, releases.query_only.manifest.digest
        assert there.backend.observe().control == new
        assert {one.release for one in there.backend.processes.all().values()} == {"", new}, f"{old[:8]} is gone"

        taoemb("rollout", "start", "--control", releases.query_only.path, "--candidate", releases.other.path, *common)
        there = open_local(folder)
        assert there.backend.gateway_url() == gateway, "the gateway goes on"
        capsys.readouterr()
        with Shoppers(gateway, demand) as shoppers:
            taoemb("rollout", "watch", "--dir", folder, "--json", exits=3)
        check(shoppers.log)
        ended = json.loads(capsys.readouterr().out)
        assert (ended["phase"], ended["control"]) == ("RolledBack", new)
        assert there.backend.traffic().candidate is None
    taoemb("rollout", "report", "--dir", folder, "--out", tmp_path / "report")
    assert "rolled back" in (tmp_path / "report" / "report.html").read_text().lower()
    taoemb("rollout", "stop", "--dir", folder)
    with MilvusStore(MilvusConfig(uri=str(milvus))) as store:
        assert store.registry.active("taoemb").digest == releases.query_only.manifest.digest


@contextmanager
def killed(there: LocalRollout, release: Release) -> Iterator[None]:
    """Kill the encoder of a release as soon as the candidate has a share."""

    def work() -> None:
        wait_until(lambda: there.backend.traffic().percent > 0)
        every = there.backend.processes.all().values()
        [pid] = [one.pid for one in every if one.release == release.manifest.digest]
        os.kill(pid, signal.SIGKILL)
        done.append(pid)

    done: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()
    assert done, "it was killed"


def check(log: TrafficLog) -> None:
    assert log.failed == 0, log.failures
    assert log.mismatched == 0
    assert log.searches > 100
