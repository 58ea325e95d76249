"""Every variant must start from its own seed's SFT, and every table and aim must find its runs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.quality import ablations
from benchmarks.quality.measure import METRICS
from benchmarks.quality.places import Where
from benchmarks.quality.runs import Done, Run

PLACE = Where(Path("shop/split"), "rules")


class AtOnce:
    """A pool that does its work when it is asked."""

    def starmap(self, function, arguments, chunksize):
        return [function(*each) for each in arguments]

    def apply_async(self, function, arguments):
        done = function(*arguments)
        return SimpleNamespace(get=lambda: done)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that would be trained; what they are worth is made up."""
    runs: list[Run] = []

    def pretend(run: Run, where: Where, out: Path) -> Done:
        assert where == PLACE
        runs.append(run)
        rng = np.random.default_rng(len(runs))
        metrics = {metric: rng.random(40) for metric in METRICS}
        return Done(run, Path(f"{run.name}-{run.seed}"), 5, 20.0 + run.seed, metrics)

    monkeypatch.setattr(ablations, "train", pretend)
    monkeypatch.setattr(ablations, "finished", lambda run, where, out: None)
    return runs


def test_each_variant_of_each_seed_from_its_own_start(trained: list[Run]):
    starts, found = ablations.run_all(PLACE, ablations.SIZE, AtOnce(), trained=False)
    assert [done.run.seed for done in starts] == list(ablations.SIZE.seeds)
    for name, runs in found.items():
        assert [done.run.seed for done in runs] == list(ablations.SIZE.seeds), name
        assert [done.run.start for done in runs] == [start.release for start in starts], name
    assert len({run.folder(Path()) for run in trained}) == len(trained), "no run overwrites another"


def test_hard_negatives_get_the_time_of_both_towers(trained: list[Run]):
    _, found = ablations.run_all(PLACE, ablations.SIZE, AtOnce(), trained=False)
    assert [done.run.seconds for done in found[ablations.MINED]] == [done.seconds for done in found[ablations.BOTH]]
    assert {done.run.objective for done in found[ablations.MINED]} == {"hard_negatives"}


def test_tables_and_aims_find_their_runs(trained: list[Run]):
    starts, found = ablations.run_all(PLACE, ablations.SIZE, AtOnce(), trained=False)
    truth = SimpleNamespace(slices={"long-tail": np.arange(40) < 20})
    tables = ablations.tables(found, [done.metrics for done in starts], truth, ablations.SIZE)
    assert {row[0] for table in tables for row in table.rows} == set(found)
    assert all(len(row) == len(table.head) for table in tables for row in table.rows)
    assert len(ablations.aims(found)) == 2
