"""A pipeline's training step as a job of its own: staged inputs, results brought back, and cleaned up at the end."""

import json
import os
import time

import pytest

from taoemb.config import PIPELINE_RUN, load_config
from taoemb.errors import InputError, TaoembError
from taoemb.jobs import steps
from taoemb.jobs.cleanup import clean_up
from taoemb.jobs.manifest import RUN_LABEL
from tests.jobs.conftest import QUICK, job, quick
from tests.jobs.fake_cluster import Attempt, condition, exited

SETTINGS = "job: {backend: trainjob, namespace: jobs, poll_s: 0.02}\nsft: {steps: 3}\n"


@pytest.fixture
def there(reachable, tmp_path, monkeypatch):
    """A step of pipeline run r-1 on the fake cluster, with its inputs."""
    monkeypatch.setenv(PIPELINE_RUN, "r-1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.parquet").write_text("items")
    return tmp_path


def train(folder, settings=SETTINGS):
    places = {"release": folder / "artefacts" / "release", "log": folder / "artefacts" / "log"}
    return steps.train("sft", settings, {"data": folder / "data"}, workspace=str(folder / "work"), **places)


def finish(api):
    """Let each TrainJob leave what training leaves in its --out."""

    def left(body):
        if body["kind"] == "TrainJob" and "status" not in body:
            args = body["spec"]["trainer"]["args"]
            data, out = (args[args.index(option) + 1] for option in ("--data", "--out"))
            with open(f"{data}/items.parquet") as file:
                assert file.read() == "items"
            os.makedirs(f"{out}/release")
            for name in ("release/release.json", "metrics.jsonl", "summary.json"):
                with open(f"{out}/{name}", "w") as file:
                    file.write('{"digest": "d"}')

    api.after_write.insert(0, left)


def test_the_job_sees_the_inputs_and_its_results_become_artefacts(there, api, cluster):
    finish(api)
    cluster(exited(0, "trained"))
    assert train(there) == {"digest": "d"}
    (made,) = api.all("trainjobs")
    assert made["metadata"]["labels"][RUN_LABEL] == "r-1"
    assert all(str(there / "work") in path for path in made["spec"]["trainer"]["args"][1:4:2])
    assert (there / "artefacts" / "release" / "release.json").is_file()
    assert {path.name for path in (there / "artefacts" / "log").iterdir()} == {"metrics.jsonl", "summary.json"}
    assert not list((there / "work").iterdir())


def test_where_it_runs_makes_no_other_training(there, api, cluster):
    cluster(*[exited(1, "taoemb: the judge is away")] * 2)
    for settings in (SETTINGS, SETTINGS.replace("poll_s: 0.02", "poll_s: 0.03")):
        with pytest.raises(TaoembError, match="train sft failed: the judge is away"):
            train(there, settings)
    assert len(list((there / "work").iterdir())) == 1


def test_cleaning_up_deletes_the_jobs_of_this_run_only(there, api, cluster):
    cluster(Attempt(ends=""), Attempt(ends=""))
    config = load_config(None, QUICK)
    mine = steps.settings_from(SETTINGS).job
    job(api, quick()).submit()
    (other,) = api.all("trainjobs")
    own = json.loads(json.dumps(other))
    own["metadata"] = {"name": "own", "namespace": "jobs", "labels": {RUN_LABEL: "r-1"}}
    api.put("trainjobs", own)
    assert list(clean_up("", 7, mine, "r-1")) == ["deleted TrainJob jobs/own"]
    deadline = time.monotonic() + 20
    while condition(api, "own") != "gone":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert condition(api, other["metadata"]["name"]) == ""
    assert list(clean_up("", 7, config.job, "")) == []


def test_a_cluster_that_is_away_fails_no_run(there, api):
    api.fail("GET", "trainjobs", times=9)
    (said,) = clean_up("", 7, steps.settings_from(SETTINGS).job, "r-1")
    assert said.startswith("TrainJobs of this run may be left: GET ")


def test_only_trainings_that_nobody_touched_are_deleted(tmp_path):
    old, new = tmp_path / f"grpo-{'0' * 16}", tmp_path / f"sft-{'1' * 16}"
    for folder in (old, new, tmp_path / "shop", tmp_path / "grpo-mine"):
        folder.mkdir()
        (folder / "metrics.jsonl").touch()
    (tmp_path / "judgments.sqlite").touch()
    past = time.time() - 8 * 24 * 3600
    for path in (*tmp_path.glob("*/*"), *tmp_path.glob("*")):
        os.utime(path, (past, past))
    os.utime(new / "metrics.jsonl")
    local = load_config().job
    assert list(clean_up(str(tmp_path), 30, local, "")) == []
    (said,) = clean_up(str(tmp_path), 7, local, "")
    assert said == f"deleted {old}, untouched for more than 7 days"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [new.name, "shop", "grpo-mine", "judgments.sqlite"]
    )
    assert list(clean_up(str(tmp_path / "none"), 7, local, "")) == []


def test_training_without_a_volume_is_refused(there):
    with pytest.raises(InputError, match=r"workspace: job\.backend is trainjob"):
        steps.train("sft", SETTINGS, {"data": there}, release=there / "r", log=there / "l")
