"""Whatever comes between, a run that is taken up again ends as the unbroken one or is refused in one line.

A row of the table in docs/training.md (tests/training/matrix.py) is a test here, a cell is one of its parameters.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.training.entry import main
from tests.judge.stub import Stub, serving
from tests.training.conftest import SMALL, records
from tests.training.forked import Forked, signal_oneself
from tests.training.matrix import EQUAL, FINISHED, NO_JUDGE, OBJECTIVES, REFUSED, ROUNDED, ROWS, cell
from tests.training.shop import rule_grade

ROOT = Path(__file__).resolve().parents[2]
OWN = {"live_infonce": ("live_infonce.towers=both", "live_infonce.refresh=5"), "grpo": ("grpo.staleness=1",)}
BOTH = ("grpo.towers=both", "grpo.refresh=5", "grpo.staleness=1")
LOGGED = {"grpo": ("loss", "reward", "kl", "grad_norm"), "live_infonce": ("loss", "index_age", "grad_norm")}


def grade(query, item):
    title = item.splitlines()[0].partition(":")[2] or item
    return [0.88 if g == rule_grade(query, title) else 0.04 for g in (1, 2, 3, 4)]


@dataclass(frozen=True)
class Bench:
    """Where runs start from, and where they lie."""

    shop: Path
    release: Path
    judge: str
    other_judge: str
    folder: Path

    def argv(self, objective, out, *settings, data=None, release=None, judge=None):
        chosen = (*SMALL, f"judge.url={judge or self.judge}", *OWN.get(objective, ()), *settings)
        given = ["--data", str(data or self.shop), "--release", str(release or self.release), "--out", str(out)]
        return [*given, *(part for setting in chosen for part in ("--set", setting))]

    def run(self, objective, out, *settings, ranks=1, stop=None, code=0, **given):
        """Train in forked processes; `stop`: (signal, step after which it comes)."""
        hooks = () if stop is None else ((signal_oneself, stop),)
        job = Forked(objective, self.argv(objective, out, *settings, **given), self.folder / "logs", ranks, hooks)
        codes = job.wait()
        assert codes == [code] * ranks, job.said()
        return job.said()

    def stopped(self, objective, name, *settings, number=signal.SIGTERM, after=2, **given):
        """A run that got a signal after a step."""
        out = self.folder / name
        self.run(objective, out, *settings, stop=(number, after), code=130 if number == signal.SIGTERM else -9, **given)
        assert not (out / "release").exists()
        return out


@pytest.fixture(scope="module")
def bench(shop, release, tmp_path_factory) -> Iterator[Bench]:
    with ExitStack() as stack:
        url = stack.enter_context(serving(Stub(grade=grade)))
        models = {"data": [{"id": "judge", "taoemb_digest": "d2"}]}
        other = stack.enter_context(serving(Stub(grade=grade, models=lambda: models)))
        yield Bench(shop, release, url, other, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def unbroken(bench):
    """The folder of the unbroken run, by objective and settings."""
    known = {}

    def unbroken(objective, *settings):
        if (objective, settings) not in known:
            out = bench.folder / f"unbroken-{len(known)}"
            bench.run(objective, out, *settings)
            known[objective, settings] = out
        return known[objective, settings]

    return unbroken


@pytest.fixture(scope="module")
def half(bench):
    """A copy of a run that SIGTERM stopped after its third step, by objective: each taker gets one of its own."""
    known, copies = {}, []

    def half(objective):
        if objective not in known:
            known[objective] = bench.stopped(objective, f"half-{objective}")
        copies.append(bench.folder / f"copy-{len(copies)}")
        return Path(shutil.copytree(known[objective], copies[-1]))

    return half


def digest(out):
    return json.loads((out / "release" / "release.json").read_text())["digest"]


def curve(out, objective):
    return [[record[name] for name in LOGGED.get(objective, ("loss", "grad_norm"))] for record in records(out)]


def same_end(out, whole, objective, how):
    assert [record["step"] for record in records(out)] == [record["step"] for record in records(whole)]
    tolerance = {EQUAL: 0, ROUNDED: 2e-3}[how]
    assert curve(out, objective) == [pytest.approx(step, abs=tolerance, rel=0) for step in curve(whole, objective)]
    if how == EQUAL:
        assert digest(out) == digest(whole)
    assert json.loads((out / "summary.json").read_text())["resumed_at"] > 0


def refused(capfd, argv, objective):
    """The one line that refuses the command; the folder is left as it is."""
    out = Path(argv[argv.index("--out") + 1])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(objective, argv)
    said = capfd.readouterr().err.strip().splitlines()
    assert ended.value.code == 2, said
    assert len(said) == 1, said
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path for path in after if "judgments" not in path.name and after[path] != before.get(path)} == set()
    return said[0]


def changed_shop(bench, where):
    data = shutil.copytree(bench.shop, where)
    items = pq.read_table(data / "items.parquet")
    rows = items.to_pylist()
    rows[5]["title"] += " x"
    pq.write_table(pa.Table.from_pylist(rows, items.schema), data / "items.parquet")
    return data


each = pytest.mark.parametrize("objective", OBJECTIVES)


@each
def test_awkward_killed(objective, bench, unbroken):
    out = bench.stopped(objective, f"killed-{objective}", number=signal.SIGKILL, after=4)
    bench.run(objective, out)
    same_end(out, unbroken(objective), objective, cell("killed (SIGKILL)", objective))
    assert json.loads((out / "summary.json").read_text())["resumed_at"] == 4


@each
def test_awkward_stopped_between_checkpoints(objective, bench, unbroken, half):
    out = half(objective)
    bench.run(objective, out)
    row = "stopped (SIGTERM, Ctrl-C) between two checkpoints"
    same_end(out, unbroken(objective), objective, cell(row, objective))
    assert json.loads((out / "summary.json").read_text())["resumed_at"] == 3


def test_awkward_stopped_with_moving_items_under_a_judge(bench, unbroken):
    """The index is older than the weights when the run stops, and must be that old when it goes on."""
    out = bench.stopped("grpo", "both", *BOTH)
    bench.run("grpo", out, *BOTH)
    same_end(out, unbroken("grpo", *BOTH), "grpo", EQUAL)
    assert [r["index_age"] for r in records(out)] == [r["index_age"] for r in records(unbroken("grpo", *BOTH))]


@pytest.mark.parametrize("objective", ["sft", "grpo"])
def test_awkward_everything_moved(objective, bench, unbroken, half, tmp_path):
    out = Path(shutil.move(half(objective), tmp_path / "elsewhere"))
    data, release = shutil.copytree(bench.shop, tmp_path / "d"), shutil.copytree(bench.release, tmp_path / "r")
    bench.run(objective, out, data=data, release=release)
    same_end(out, unbroken(objective), objective, cell("data, release and folder moved", objective))


HARMLESS = (
    "engine.gradient_checkpointing=true",
    "engine.keep_checkpoints=1",
    "engine.collapse_cosine=0.99",
    "judge.concurrency=3",
    "judge.batch_size=7",
    "judge.timeout_s=20",
    "judge.wait_s=20",
    "judge.max_unanswered=0.3",
)


@pytest.mark.parametrize("objective", ["grpo", "hard_negatives"])
def test_awkward_harmless_settings_changed(objective, bench, unbroken, half, tmp_path):
    out = half(objective)
    places = (f"engine.banks={tmp_path / 'banks'}", f"judge.cache={tmp_path / 'cache.sqlite'}")
    with serving(Stub(grade=grade)) as elsewhere:
        bench.run(objective, out, *HARMLESS, *places, judge=elsewhere)
    row = "judge at another address; other memory, trackers, pace (the list below)"
    same_end(out, unbroken(objective), objective, cell(row, objective))


@each
def test_awkward_other_ranks(objective, bench, unbroken, half):
    out = half(objective)
    bench.run(objective, out, ranks=2)
    same_end(out, unbroken(objective), objective, cell("other number of ranks, without ZeRO", objective))


@each
def test_awkward_other_cut(objective, bench, half, capfd):
    out = half(objective)
    assert cell("other ZeRO stage", objective) == cell("other number of ranks, with ZeRO", objective) == REFUSED
    said = refused(capfd, bench.argv(objective, out, "engine.zero_stage=1"), objective)
    assert (
        "written by 1 rank at engine.zero_stage 0, and DeepSpeed can't read it as 1 rank at engine.zero_stage 1" in said
    )
    cut = next(out.glob("checkpoints/step-3/cut.json"))
    cut.write_text('{"ranks": 2, "zero_stage": 2, "offload": "none"}')
    said = refused(capfd, bench.argv(objective, out, "engine.zero_stage=2"), objective)
    assert "written by 2 ranks at engine.zero_stage 2, and DeepSpeed can't read it as 1 rank" in said


def test_awkward_other_ranks_under_zero_are_refused_on_every_rank(bench):
    out = bench.folder / "zero"
    bench.run("sft", out, "engine.zero_stage=2", stop=(signal.SIGTERM, 2), code=130)
    said = bench.run("sft", out, "engine.zero_stage=2", ranks=2, code=2)
    assert len(said.strip().splitlines()) == 1
    assert "as 2 ranks at engine.zero_stage 2" in said
    bench.run("sft", out, "engine.zero_stage=2")
    assert (out / "release").is_dir()


def test_awkward_other_judge(bench, half, capfd):
    assert cell("other judge", "grpo") == REFUSED
    assert cell("other judge", "sft") == NO_JUDGE
    for changed, key in (
        ({"judge": bench.other_judge}, "judge.release (d1, now d2)"),
        ({"settings": ("judge.item_tokens=40",)}, "judge.item_tokens (256, now 40)"),
        ({"settings": ("judge.extra_body={seed: 1}",)}, "judge.extra_body"),
    ):
        argv = bench.argv("grpo", half("grpo"), *changed.pop("settings", ()), **changed)
        assert f"holds a run with other {key}" in refused(capfd, argv, "grpo")


@each
def test_awkward_other_data(objective, bench, half, tmp_path, capfd):
    assert cell("other data (a changed row)", objective) == REFUSED
    argv = bench.argv(objective, half(objective), data=changed_shop(bench, tmp_path / "d"))
    assert "holds a run with other data.items (" in refused(capfd, argv, objective)


@each
def test_awkward_other_settings(objective, bench, half, capfd):
    assert cell("other settings", objective) == REFUSED
    for setting, key in (
        (f"{objective}.tau=0.5", f"{objective}.tau (0.05, now 0.5)"),
        ("engine.seed=3", "engine.seed"),
    ):
        said = refused(capfd, bench.argv(objective, half(objective), setting), objective)
        assert f"holds a run with other {key}" in said


@each
def test_awkward_more_steps_under_a_schedule(objective, bench, half, capfd):
    assert cell("more steps, any other schedule", objective) == REFUSED
    said = refused(capfd, bench.argv(objective, half(objective), f"{objective}.steps=9"), objective)
    assert f"{objective}.steps (6, now 9)" in said


@pytest.mark.parametrize("objective", ["sft", "grpo", "hard_negatives", "live_infonce"])
def test_awkward_more_steps_at_a_constant_rate(objective, bench, unbroken, capfd):
    own = {"grpo": ("grpo.staleness=0",), "live_infonce": ("live_infonce.towers=query",)}.get(objective, ())
    flat = (f"{objective}.optim.schedule=constant", f"{objective}.optim.warmup=0", *own)
    if objective in ("grpo", "live_infonce"):
        assert "else refused" in cell("more steps, constant learning rate without warm-up", objective)
        out = bench.stopped(objective, f"more-{objective}", *flat[:2])
        assert ".steps (6, now 9)" in refused(
            capfd, bench.argv(objective, out, *flat[:2], f"{objective}.steps=9"), objective
        )
    if objective == "hard_negatives":
        return  # as SFT, whose loop it shares
    out = bench.folder / f"short-{objective}"
    bench.run(objective, out, *flat)
    bench.run(objective, out, *flat, f"{objective}.steps=9")
    same_end(out, unbroken(objective, *flat, f"{objective}.steps=9"), objective, EQUAL)
    assert json.loads((out / "summary.json").read_text())["resumed_at"] == 6


@each
def test_awkward_finished(objective, bench, unbroken, tmp_path, capfd):
    out = shutil.copytree(unbroken(objective), tmp_path / "run")
    assert cell("finished, same command", objective) == FINISHED
    capfd.readouterr()
    main(objective, bench.argv(objective, out))
    assert capfd.readouterr().err.splitlines() == [f"taoemb: {out}: finished before; nothing trained"]
    assert cell("finished, other data, judge or settings", objective) == REFUSED
    argv = bench.argv(objective, out, data=changed_shop(bench, tmp_path / "d"))
    assert "other data.items" in refused(capfd, argv, objective)
    assert f"other {objective}.queries" in refused(
        capfd, bench.argv(objective, out, f"{objective}.queries=4"), objective
    )
    if objective == "grpo":
        said = refused(capfd, bench.argv(objective, out, judge=bench.other_judge), objective)
        assert "other judge.release (d1, now d2)" in said
        away = bench.argv(objective, out, "judge.wait_s=0", judge="http://127.0.0.1:9/v1")
        main(objective, away)
        assert "finished before" in capfd.readouterr().err


def test_awkward_page_says_what_is_tested():
    assert len(ROWS) == 14
    done = subprocess.run([sys.executable, "scripts/training_page.py", "--check"], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, "run python scripts/training_page.py"
