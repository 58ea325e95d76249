"""Submitting: what reaches the cluster through our command and through kfp's own, against a stub of its REST API."""

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.pipelines.stub_api import Cluster, cluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def api() -> Iterator[Cluster]:
    with cluster() as state:
        yield state


def test_posts_the_file_and_typed_parameters(toy, taoemb, api):
    given = ("-p", "folder=/data", "-p", "times=3", "-p", "passes=false", "-p", 'extra={"a": [1]}')
    done = taoemb("submit", toy.path, "--host", f"{api.url}/", *given, "--run-name", "first", "--json")
    assert done.returncode == 0, done.stderr
    (run,) = api.runs
    assert run["pipeline_spec"] == yaml.safe_load(toy.path.read_text())
    assert run["runtime_config"]["parameters"] == {"folder": "/data", "times": 3, "passes": False, "extra": {"a": [1]}}
    assert run["display_name"] == "first"
    assert run["experiment_id"] == api.experiments["taoemb"]["experiment_id"]
    assert json.loads(done.stdout) == {
        "run_id": "run-0",
        "run_name": "first",
        "experiment": "taoemb",
        "url": f"{api.url}/#/runs/details/run-0",
    }


def test_an_experiment_is_made_once_and_a_token_is_sent(toy, taoemb, api, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    for _ in range(2):
        more = ("--experiment", "mine", "--token-file", token)
        done = taoemb("submit", toy.path, "--host", api.url, "-p", "folder=/data", *more)
        assert done.returncode == 0, done.stderr
    assert list(api.experiments) == ["mine"]
    assert len(api.runs) == 2
    assert api.tokens == {"Bearer secret"}
    assert "secret" not in done.stdout + done.stderr


def test_kfps_own_command_sends_the_same(toy, api):
    command = [str(Path(sys.executable).with_name("kfp")), "--endpoint", api.url, "run"]
    more = ["-e", "taoemb", "-f", str(toy.path), "folder=/data", "times=3"]
    for verb in ("create", "submit"):
        subprocess.run([*command, verb, *more], check=True, capture_output=True, timeout=120)
    for run in api.runs:
        assert run["pipeline_spec"] == yaml.safe_load(toy.path.read_text())
        assert run["runtime_config"]["parameters"]["folder"] == "/data"
    assert len(api.runs) == 2


def test_the_real_pipelines_are_taken_with_their_settings(taoemb, api):
    for name in ("grpo", "sft"):
        file = ROOT / "pipelines" / f"{name}.yaml"
        more = ("-p", "data=/data/shop", "--set", "sft.steps=16", "--set", "milvus.uri=http://milvus:19530")
        done = taoemb("submit", file, "--host", api.url, *more)
        assert done.returncode == 0, done.stderr
        command = [str(Path(sys.executable).with_name("kfp")), "--endpoint", api.url, "run", "submit", "-e", "taoemb"]
        command += ["-f", str(file), "data=/data/shop", "gpus=2"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        ours, theirs = api.runs[-2:]
        spec, platform = yaml.safe_load_all(file.read_text())
        both = {"pipeline_spec": spec, "platform_spec": platform}
        assert ours["pipeline_spec"] == theirs["pipeline_spec"] == both
        settings = "milvus:\n  uri: http://milvus:19530\nsft:\n  steps: 16\n"
        assert ours["runtime_config"]["parameters"] == {"data": "/data/shop", "settings": settings}
        assert theirs["runtime_config"]["parameters"] == {"data": "/data/shop", "gpus": 2}


def test_a_weekly_run_is_posted_as_the_docs_say(api):
    page = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"kfp --endpoint \S+ recurring-run create(?:.*\\\n)*.*\n", page)
    words = shlex.split(command.replace("\\\n", " "))
    words[:3] = [str(Path(sys.executable).with_name("kfp")), "--endpoint", api.url]
    subprocess.run(words, check=True, capture_output=True, timeout=120, cwd=ROOT)
    (made,) = api.recurring
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 0"
    assert (made["max_concurrency"], made["mode"]) == (1, "ENABLE")
    spec, platform = yaml.safe_load_all((ROOT / "pipelines" / "grpo.yaml").read_text())
    assert made["pipeline_spec"] == {"pipeline_spec": spec, "platform_spec": platform}
    assert made["runtime_config"]["parameters"]["data"].startswith("/mnt/taoemb/")


def test_an_absent_host_is_one_line(toy, taoemb):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = taoemb("submit", toy.path, "--host", f"http://127.0.0.1:{port}", "-p", "folder=/data")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"--host http://127.0.0.1:{port}: cannot be reached" in done.stderr


def test_a_refusal_says_why(toy, taoemb, api):
    api.refuse = True
    done = taoemb("submit", toy.path, "--host", api.url, "-p", "folder=/data")
    assert done.returncode == 1
    assert "refused the run: 400" in done.stderr.strip().splitlines()[-1]
    assert "the namespace has no quota left" in done.stderr


def test_another_server_is_recognised(toy, taoemb, api):
    done = taoemb("submit", toy.path, "--host", f"{api.url}/elsewhere", "-p", "folder=/data")
    assert done.returncode == 1
    assert "no Kubeflow Pipelines API there (healthz answered 404)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "cluster:8888", "-p", "folder=/data"), "expected http://… or https://…"),
        (("--host", "http://h", "-p", "folder=/data", "-p", "tiems=1"), "--param tiems: toy has no such parameter"),
        (("--host", "http://h"), "--param folder=… is needed"),
        (("--host", "http://h", "-p", "folder=/data", "--token-file", "none"), "--token-file none: No such file"),
        (("-p", "folder=/data"), "Missing option '--host'"),
    ],
)
def test_bad_usage(toy, taoemb, arguments, message):
    done = taoemb("submit", toy.path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
