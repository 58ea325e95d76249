"""What happens to a GRPO run when its judge goes away, answers nonsense, or leaves pairs unanswered."""

import json
import math
import threading
import time

from starlette.responses import JSONResponse

from taoemb.judge.probe import PAIRS
from tests.judge.stub import Stub, free_port, serving
from tests.training.conftest import records


def dies_after(stub: Stub, requests: int):
    """From that many requests on the judge answers 503."""
    stub.fault = lambda pairs: JSONResponse({}, 503) if len(stub.requests) > requests else None


def test_the_run_waits_for_a_judge_that_restarts(start, release, judge, tmp_path):
    grade, port = judge.grade, free_port()
    out, gap_s = tmp_path / "run", 4.0

    def judge_with_a_gap(second: threading.Event):
        with serving(Stub(grade=grade), port):
            while not (out / "metrics.jsonl").exists() or len(records(out)) < 2:
                time.sleep(0.01)
        time.sleep(gap_s)
        with serving(Stub(grade=grade), port):
            second.wait(120)

    done = threading.Event()
    server = threading.Thread(target=judge_with_a_gap, args=(done,))
    server.start()
    url = f"http://127.0.0.1:{port}/v1"
    settings = (f"judge.url={url}", "judge.release=one", "judge.wait_s=60", "grpo.steps=40")
    job = start("grpo", out, *settings, release=release)
    said = job.communicate(timeout=120)[1]
    done.set()
    server.join()
    assert job.returncode == 0, said
    got = records(out)
    assert len(got) == 40
    assert max(r["step_s"] for r in got) > gap_s / 2
    assert all(r["unanswered_share"] == 0 for r in got)


def test_a_judge_gone_for_good_stops_the_run_with_a_checkpoint(start, train, release, judge, tmp_path):
    settings = [f"judge.url={judge.url}", "judge.wait_s=1", "judge.timeout_s=1", "grpo.staleness=0"]
    fault = judge.fault
    dies_after(judge, 4)
    job = start("grpo", tmp_path / "run", *settings, release=release)
    said = job.communicate(timeout=120)[1]
    assert job.returncode == 1
    assert said.strip().splitlines()[-1].startswith("taoemb: the judge at")
    assert "resume with the same command" in said
    trained = len(records(tmp_path / "run"))
    assert 0 < trained < 6
    assert (tmp_path / "run" / "checkpoints" / f"step-{trained}" / "state.pt").exists()
    assert not (tmp_path / "run" / "release").exists()
    judge.fault = fault  # the judge is repaired: the run goes on where it stopped and ends as if nothing had been
    resumed = train("grpo", tmp_path / "run", *settings, release=release)
    unbroken = train("grpo", tmp_path / "unbroken", *settings, release=release)
    assert [r["loss"] for r in resumed] == [r["loss"] for r in unbroken]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["resumed_at"] == trained


def test_unanswered_pairs_are_masked_and_counted(train, release, judge, tmp_path):
    judge.change = lambda answer: answer | {"choices": [c for c in answer["choices"] if c["index"] % 5]}
    got = train("grpo", tmp_path / "run", f"judge.url={judge.url}", "judge.max_unanswered=0.5", release=release)
    assert all(0.1 < r["unanswered_share"] < 0.5 for r in got)
    assert all(math.isfinite(r["loss"]) and 0 < r["relevance"] < 1 for r in got)


def test_too_many_unanswered_pairs_stop_the_run(start, release, judge, tmp_path):
    judge.change = lambda answer: answer if len(judge.pairs) <= PAIRS else answer | {"choices": []}
    job = start("grpo", tmp_path / "run", f"judge.url={judge.url}", release=release)
    said = job.communicate(timeout=120)[1]
    assert job.returncode == 1
    assert "unanswered" in said.splitlines()[-1]
    assert "no choice for it" in said.splitlines()[-1]
    assert not (tmp_path / "run" / "release").exists()


def test_awkward_judge_that_answers_nothing_is_found_before_anything_is_embedded(start, release, judge, tmp_path):
    judge.change = lambda answer: answer | {"choices": []}
    job = start("grpo", tmp_path / "run", f"judge.url={judge.url}", release=release)
    said = job.communicate(timeout=120)[1]
    assert job.returncode == 1
    assert "answered none of the pairs, of" in said.splitlines()[-1]
    assert "no choice for it" in said.splitlines()[-1]
    assert "step 1" not in said
    assert len(judge.pairs) <= PAIRS
    assert not (tmp_path / "run" / "release").exists()
