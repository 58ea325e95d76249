"""A judge that changes, a cache that is locked, or a full disk under it: a checkpoint and one line on every rank."""

import json
import sqlite3
from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from taoemb.judge import cache
from taoemb.judge.probe import PAIRS
from tests.judge.stub import Stub, serving
from tests.training.conftest import SMALL, records
from tests.training.forked import Forked, after_record, fill_disk
from tests.training.test_awkward_folder import small_disk

__all__ = ["small_disk"]

HELD = []


def argv(shop, out, release, judge, *settings):
    given = ["--data", str(shop), "--out", str(out), "--release", str(release)]
    every = (*SMALL, f"judge.url={judge.url}", "judge.wait_s=5", *settings)
    return [*given, *(part for setting in every for part in ("--set", setting))]


def lock_after(step: int, file: str) -> None:
    """After the record of a step, hold the cache as another process may; nobody waits a minute for it here."""
    cache._BUSY_S = 0.2

    def lock() -> None:
        HELD.append(sqlite3.connect(file, isolation_level=None, check_same_thread=False))
        HELD[0].execute("BEGIN EXCLUSIVE")

    after_record(step, lock)


def fill_after(step: int, filler: str) -> None:
    after_record(step, lambda: fill_disk(Path(filler), 0))


def stopped(job: Forked, out: Path, says: str) -> None:
    """Every rank ended with 1, one line says why, and the run goes on from a checkpoint."""
    assert job.wait() == [1] * len(job.processes), job.said()
    told = [line for line in job.said().splitlines() if line.startswith("taoemb: ")]
    assert len(told) == 1, job.said()
    assert says in told[0]
    assert "resume with the same command" in told[0]
    everything = "".join(job.said(rank) for rank in range(len(job.processes)))
    assert "Traceback" not in everything
    assert not [line for line in job.said(1).splitlines() if line.startswith("taoemb: ")]
    trained = len(records(out))
    assert (out / "checkpoints" / f"step-{trained}" / "state.pt").exists()
    assert not (out / "release").exists()


@pytest.mark.parametrize("fails", ["locked", "full"])
def test_awkward_cache_fails_in_the_middle_of_a_run(fails, shop, release, judge, small_disk, tmp_path):
    out, file = tmp_path / "run", small_disk / "judgments.sqlite"
    settings = (f"judge.cache={file}",)
    hook = (lock_after, (1, str(file))) if fails == "locked" else (fill_after, (1, str(small_disk / "filler")))
    job = Forked("grpo", argv(shop, out, release, judge, *settings), tmp_path / "logs", 2, (hook,))
    stopped(job, out, f"judge.cache {file}: database " + ("is locked" if fails == "locked" else "or disk is full"))
    (small_disk / "filler").unlink(missing_ok=True)
    again = Forked("grpo", argv(shop, out, release, judge, *settings), tmp_path / "logs")
    assert again.wait() == [0], again.said()
    assert len(records(out)) == 6
    assert len(set(judge.pairs)) > len(judge.pairs) / 2  # what was kept is not asked again


def test_awkward_judge_that_changes_in_the_middle_of_a_run(shop, release, judge, tmp_path):
    out = tmp_path / "run"

    def fault(pairs):
        if len(judge.requests) < 6:
            return None
        if judge.models is not other:
            judge.models = other
            return JSONResponse({"detail": "restarting"}, 503)
        return JSONResponse({"detail": "restarting"}, 503) if len(judge.requests) < 16 else None

    def other():
        return {"data": [{"id": "judge", "taoemb_digest": "d2"}]}

    judge.fault = fault
    job = Forked("grpo", argv(shop, out, release, judge), tmp_path / "logs", 2)
    stopped(job, out, f"the judge at {judge.url} changed from d1 to d2 during the run")
    again = Forked("grpo", argv(shop, out, release, judge), tmp_path / "logs")
    assert again.wait() == [2]
    assert "holds a run with other judge.release (d1, now d2)" in again.said()


def test_awkward_held_out_judge_is_tried_first_too(shop, release, judge, tmp_path):
    silent = Stub(
        models=lambda: {"data": [{"id": "judge", "taoemb_digest": "other"}]},
        change=lambda answer: answer | {"choices": []},
    )
    out = tmp_path / "run"
    with serving(silent) as url:
        more = (f"heldout_judge.url={url}", "grpo.heldout_every=2", "grpo.heldout_queries=4")
        job = Forked("grpo", argv(shop, out, release, judge, *more), tmp_path / "logs", 2)
        assert job.wait() == [1, 1], job.said()
    assert f"the judge at {url} answered none of the pairs, of 16 tried first" in job.said().splitlines()[-1]
    assert len(silent.pairs) == PAIRS
    assert not out.exists()


def test_the_mass_of_the_labels_is_logged_in_each_step(shop, release, judge, tmp_path):
    given = judge.change

    def diluted(answer):
        answer = given(answer)
        for one in answer["choices"]:
            for entry in one["logprobs"]["content"][0]["top_logprobs"]:
                entry["logprob"] -= 0.25
        return answer

    judge.change = diluted
    job = Forked("grpo", argv(shop, tmp_path / "run", release, judge), tmp_path / "logs")
    assert job.wait() == [0], job.said()
    got = records(tmp_path / "run")
    assert [round(r["label_mass"], 3) for r in got] == [0.779] * len(got)
    assert all(r["reward_std"] > 0 for r in got)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())
