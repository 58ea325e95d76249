"""The checked-in GRPO pipeline on a small shop, by the real command line: interrupted, resumed, published, refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from taoemb.data.synth import synthesise
from tests.pipelines.tiny_model import tiny_model

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "split": {"test": 0.3},
    "judge_train": {"max_pairs": 512, "lr": 0.001, "max_tokens": 48, "item_tokens": 32},
    "judge": {"item_tokens": 32},
    "sft": {"steps": 10, "queries": 16, "random_negatives": 16, "optim": {"lr": 0.001}},
    "grpo": {"steps": 12, "queries": 8, "k": 8, "heldout_every": 4, "heldout_queries": 8, "optim": {"lr": 0.001}},
    "evaluation": {"bootstrap": 100, "judge_queries": 20, "hitrate": [10], "recall": [10], "goodrate": [10]},
    "gate": {"margin": 1.0, "guard_margin": 1.0, "min_queries": 5},
}


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "taoemb", "pipeline", "run", str(ROOT / "pipelines" / "grpo.yaml"), *map(str, args)]


def interrupt_in_grpo(args: list[str], cwd: Path) -> None:
    """Start the run, and interrupt it when Retrieval-GRPO has made two steps."""
    with subprocess.Popen(args, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 240
        while sum(len(path.read_text().splitlines()) for path in cwd.glob("out/work/grpo-*/metrics.jsonl")) < 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "Retrieval-GRPO never started"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said


def _role(judge: Path) -> int:
    """The half of the queries that a judge was trained on: 0 gives reward."""
    return json.loads(judge.read_text())["settings"]["query_part"]


@pytest.mark.slow
def test_the_whole_loop(tmp_path):
    shop, cwd = tmp_path / "shop", tmp_path / "cwd"
    cwd.mkdir()
    synthesise(shop, 300, 120, seed=2)
    model = tiny_model(tmp_path / "model", shop)
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS | {"judge_train": {**SETTINGS["judge_train"], "model": str(model)}}))
    given = ("-p", f"data={shop}", "-p", f"encoder={model}", "-p", "seed=4", "--config", settings, "--out", "out")

    interrupt_in_grpo(command(*given), cwd)
    out = cwd / "out"
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"
    assert not (out / "report.html").exists()
    assert list(out.glob("work/grpo-*/checkpoints/step-*"))

    done = subprocess.run(command(*given, "--json"), cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    states = {step["title"]: step["state"] for step in result["steps"]}
    trained = ("prepare", "sft", "reward judge", "held-out judge")
    assert states == {
        **dict.fromkeys(("validate", "grpo", "evaluate", "gate", "publish", "cleanup"), "done"),
        **dict.fromkeys(trained, "reused"),
    }
    folders = {step["name"]: Path(step["folder"]) for step in result["steps"] if step["folder"]}
    summary = json.loads((cwd / folders["grpo"] / "log" / "summary.json").read_text())
    assert summary["resumed_at"] >= 2
    lines = [json.loads(line) for line in (cwd / folders["grpo"] / "log" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(12))
    assert {"heldout_relevance"} <= set(lines[8])

    release = json.loads((out / "release" / "release.json").read_text())
    published = json.loads((cwd / folders["publish"] / "published").read_text())
    assert published["release"] == release["digest"] == summary["digest"]
    assert published["items"] == 300
    assert published["active"] is True
    judge = next(path for path in out.glob("steps/*/train-judge*/judge/judge.json") if _role(path) == 0)
    assert release["training"]["reward_judges"] == [json.loads(judge.read_text())["digest"]]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["goodrate@10"]["all"]["queries"] == 36
    assert {"plain", "negation"} <= set(metrics["goodrate@10"])
    report = (out / "report.html").read_text()
    assert all(name in report for name in ("bm25", "zero-shot", "start", "release"))

    refused = subprocess.run(
        command(*given, "--set", "gate.min_queries=1000"),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert refused.returncode == 1
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "taoemb: step 'gate' failed: the gate refused this release, it is not published: goodrate@10"
    )
    assert "publish" not in {step["name"] for step in json.loads((out / "run.json").read_text())["steps"]}

    assert [path.name for path in cwd.iterdir()] == ["out"]
    assert not list(out.glob("work/*-*"))
