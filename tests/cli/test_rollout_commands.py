"""`taoemb rollout`: what can't work is refused in one line before anything is started or written."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taoemb.cli.main import main
from taoemb.config import EventsConfig, dump_config, load_config
from taoemb.rollout.backend import Candidate
from taoemb.rollout.local.start import open_local
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import begin, moved, to_json
from taoemb.serving.events.store import EventStore
from tests.judge.stub import Stub, serving
from tests.serving.gateway_shop import Shop, make_shop

ROOT = Path(__file__).parents[2]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; what it printed. It must exit as said, and without a traceback."""

    def run(*words: object, exits: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["rollout", *map(str, words)])
        said = capsys.readouterr()
        assert ended.value.code == exits, said.err
        assert "Traceback" not in said.err
        assert exits == 0 or said.err.count("\n") == 1 or said.out, said.err
        return said.out + said.err

    return run


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.yaml"
    file.write_text("{metric: click_rate, guardrails: [{metric: error_rate, margin: 0.1}]}")
    return file


def test_what_cannot_start_is_refused_before_anything_stands(shop: Shop, plan: Path, tmp_path: Path, run: Run) -> None:
    releases, folder = shop.releases, tmp_path / "rollout"
    base, other = releases.base.path, releases.other.path
    start = ["start", "--plan", plan, "--dir", folder, "--milvus", shop.copy(tmp_path)]

    def refused(*words: object) -> str:
        said = run(*start, *words, exits=2)
        assert not (folder / "processes.json").exists()
        return said

    assert "nothing to compare" in refused("--control", base, "--candidate", base)
    assert "not a release" in refused("--control", tmp_path / "nothing", "--candidate", other)
    unbound = refused("--control", base, "--candidate", other, "--set", "milvus.prefix=elsewhere")
    assert "taoemb publish --no-activate" in unbound
    assert "no such file" in refused("--control", base, "--candidate", other, "--milvus", tmp_path / "none.db")
    assert "--inference-service" in refused("--candidate", other)
    plan.write_text("{}")
    assert "heldout_judge.url" in refused("--control", base, "--candidate", other)
    plan.write_text("{steps: [{percent: 50}, {percent: 10}]}")
    assert "percent must grow" in refused("--control", base, "--candidate", other)
    plan.write_text("{metric: click_rate, guardrails: [], slices: [{name: odd, pattern: '('}]}")
    assert "no regular expression" in refused("--control", base, "--candidate", other)
    plan.write_text("{metric: click_rate, guardrails: [], history: nowhere.parquet}")
    assert "history" in refused("--control", base, "--candidate", other)


def test_the_judge_that_gave_reward_is_refused_at_the_start(
    shop: Shop, plan: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.write_text("{}")
    monkeypatch.setattr("taoemb.rollout.local.start.reward_judges", lambda releases: ["d1"])
    with serving(Stub()) as judge_url:
        start = ["start", "--plan", plan, "--dir", tmp_path / "rollout", "--milvus", shop.copy(tmp_path)]
        start += ["--control", shop.releases.base.path, "--candidate", shop.releases.other.path]
        assert "gave the reward" in run(*start, "--judge-url", judge_url, exits=2)


@pytest.mark.parametrize("command", ["status", "watch", "promote", "rollback"])
def test_which_rollout_must_be_said(command: str, tmp_path: Path, run: Run) -> None:
    assert "--dir DIR" in run(command, exits=2)
    assert "--dir DIR" in run(command, "--dir", tmp_path, "--rollout", "a/b", exits=2)
    assert "no rollout was started here" in run(command, "--dir", tmp_path, exits=2)
    assert "NAMESPACE/NAME" in run(command, "--rollout", "nonsense", exits=2)


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The folder of a rollout that was rolled back, whose processes are gone."""
    folder = tmp_path / "ended"
    folder.mkdir()
    events = EventsConfig(url=f"sqlite:///{folder / 'events.db'}", spool=folder / "spool")
    (folder / "config.yaml").write_text(dump_config(load_config().model_copy(update={"events": events})))
    (folder / "rollout.json").write_text(json.dumps({"rollout": "r1", "replicas": 1, "reward_judges": []}))
    plan = Plan.model_validate({"metric": "click_rate", "guardrails": []})
    state = begin("r1", Candidate("ca" * 32, "/a"), "r1", 0.0, "c0" * 32)
    state = moved(replace(state, ends_as="RolledBack"), "RolledBack", "error_rate is 3 points worse", 1.0)
    with EventStore(events) as store:
        store.rollouts.create("r1", plan.model_dump(mode="json"), to_json(state), 0.0)
    return folder


def test_an_ended_rollout_says_how_it_ended(ended: Path, tmp_path: Path, run: Run) -> None:
    assert json.loads(run("watch", "--dir", ended, "--json", exits=3))["phase"] == "RolledBack"
    assert "3 points worse" in run("status", "--dir", ended)
    found = json.loads(run("status", "--dir", ended, "--json"))
    assert (found["phase"], found["gateway"], found["ended"]) == ("RolledBack", None, True)
    assert "has ended" in run("promote", "--dir", ended, "--why", "we know better", exits=2)
    run("report", "--dir", ended, "--out", tmp_path / "report")
    assert "3 points worse" in (tmp_path / "report" / "report.html").read_text()
    assert "either --out DIR or --serve PORT" in run("report", "--dir", ended, exits=2)
    run("stop", "--dir", ended)
    assert open_local(ended).name == "r1"


def test_the_tables_of_the_page_are_those_of_the_plan() -> None:
    done = subprocess.run([sys.executable, "scripts/rollout_page.py", "--check"], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
