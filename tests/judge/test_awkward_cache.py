"""A cache file that another process holds, a full or read-only disk, damage, an older format: one line, no loss."""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from taoemb.cli.main import main
from taoemb.errors import InputError
from taoemb.judge import cache as module
from taoemb.judge.answers import Judgment
from taoemb.judge.cache import JudgmentCache
from taoemb.judge.failures import CacheFailure
from tests.judge.clients import by_title, client, numbered
from tests.judge.graded_shop import colour_shop
from tests.judge.stub import Stub, serving
from tests.test_awkward_storage import read_only, small_disk

__all__ = ["small_disk"]

ONE = Judgment((0.125, 0.25, 0.5, 0.125), 0.75)
KEY = b"k" * 32


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_S", 0.2)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process in the middle of a write."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.close()


def whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_awkward_lock_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "c"
    cache = JudgmentCache(path)
    cache.put([(KEY, ONE)])
    with locked(path):
        with pytest.raises(
            InputError, match=r"^judge\.cache .*/c: database is locked; another process keeps it locked"
        ):
            JudgmentCache(path)
        with pytest.raises(CacheFailure, match=r"^judge\.cache .*: database is locked"):
            cache.put([(b"l" * 32, ONE)])
        assert cache.get([KEY]) == {KEY: ONE}  # readers are not held up
    cache.put([(b"l" * 32, ONE)])
    assert len(cache.get([KEY, b"l" * 32])) == 2


def test_awkward_lock_in_the_middle_of_a_job(tmp_path: Path) -> None:
    """What was paid for and could be kept is kept; the call that can't keep its answers ends the job."""
    path = tmp_path / "c"
    with serving(Stub(grade=by_title)) as url, client(url, cache=path) as judge:
        judge.grade(*numbered(3))
        with locked(path), pytest.raises(CacheFailure, match=r"^judge\.cache .*: database is locked"):
            judge.grade(*numbered(5))
        judged = judge.grade(*numbered(5))
        assert (judged.cached, judged.unanswered) == (3, 0)
    np.testing.assert_allclose(judged.relevance, np.arange(5) / 1000, atol=1e-6)


def test_awkward_full_disk(small_disk: Path) -> None:
    path = small_disk / "c"
    cache = JudgmentCache(path)
    kept: list[bytes] = []

    def fill() -> None:
        for part in range(100):
            keys = [np.int64(part * 1000 + i).tobytes() * 4 for i in range(200)]
            cache.put((key, ONE) for key in keys)
            kept.extend(keys)

    with pytest.raises(CacheFailure, match=r"full, \d+ judgments could not be kept; free the disk or name another"):
        fill()
    assert kept
    assert len(cache.get(kept)) == len(kept)
    cache.close()
    with closing(JudgmentCache(path)) as again:
        assert len(again.get(kept)) == len(kept)
    assert whole(path)


def test_awkward_read_only_disk(small_disk: Path) -> None:
    path = small_disk / "c"
    cache = JudgmentCache(path)
    cache.put([(KEY, ONE)])
    cache.close()
    read_only(small_disk)
    with pytest.raises(InputError, match=r"^judge\.cache .*/c: .*; make file and folder writable"):
        JudgmentCache(path)
    with pytest.raises(InputError, match=r"^judge\.cache .*; make file and folder writable"):
        JudgmentCache(small_disk / "deep" / "new")


def test_awkward_damage_while_it_is_open(tmp_path: Path) -> None:
    path, keys = tmp_path / "c", [np.int64(i).tobytes() * 4 for i in range(3000)]
    with closing(JudgmentCache(path)) as cache:
        cache.put((key, ONE) for key in keys)
    with closing(JudgmentCache(path)) as cache:
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * (path.stat().st_size - 8192))
        with pytest.raises(CacheFailure, match=r"^judge\.cache .*malformed; delete the file or name another"):
            cache.get(keys)


def old_file(path: Path, keys: list[bytes]) -> None:
    """As it was before the labels' mass was kept: four floats."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE judgments (key BLOB PRIMARY KEY, probs BLOB NOT NULL) WITHOUT ROWID")
        row = struct.pack("<4f", 0, 0, 0, 1)
        db.executemany("INSERT INTO judgments VALUES (?, ?)", [(key, row) for key in keys])


def test_awkward_old_files_fill_anew(tmp_path: Path) -> None:
    """Their grades may be noise: they are asked again, once, and the file goes on."""
    path = tmp_path / "c"
    with serving(Stub(grade=by_title)) as url:
        with client(url, cache=tmp_path / "keys") as judge:
            judge.grade(*numbered(4))
        with sqlite3.connect(tmp_path / "keys") as db:
            keys = [key for (key,) in db.execute("SELECT key FROM judgments")]
        old_file(path, keys)
        with client(url, cache=path) as judge:
            first, second = judge.grade(*numbered(4)), judge.grade(*numbered(4))
    assert (first.cached, first.asked, second.cached, second.asked) == (0, 4, 4, 0)
    np.testing.assert_allclose(second.relevance, np.arange(4) / 1000, atol=1e-6)
    np.testing.assert_allclose(second.label_mass, 1, atol=1e-6)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x" * 24,
        struct.pack("<4fd", 0.5, 0.5, 0.5, 0.5, 0.9),
        struct.pack("<4fd", 0, 0, 0, 1, float("nan")),
        struct.pack("<4fd", 0, 0, 0, 1, 0),
        struct.pack("<4fd", 0, 0, 0, 1, 1.5),
        struct.pack("<4fd", float("nan"), 0, 0, 1, 0.9),
        struct.pack("<4fd", -1, 1, 0, 1, 0.9),
        "text",
        7,
    ],
)
def test_awkward_values_are_unknown_and_replaced(value: object, tmp_path: Path) -> None:
    cache = JudgmentCache(tmp_path / "c")
    with sqlite3.connect(tmp_path / "c") as db:
        db.execute("INSERT INTO judgments VALUES (?, ?)", (KEY, value))
    assert cache.get([KEY]) == {}
    cache.put([(KEY, ONE)])
    assert cache.get([KEY]) == {KEY: ONE}


def test_awkward_answers_below_a_raised_mass_are_asked_again(tmp_path: Path) -> None:
    """And those above it are not, nor is anything lost for who asks for less."""

    def weak(answer: dict) -> dict:
        for one in answer["choices"]:
            top = one["logprobs"]["content"][0]["top_logprobs"]
            for entry in top:
                entry["logprob"] += np.log(0.6)
            top.append({"token": "the", "logprob": float(np.log(0.4))})
        return answer

    path = tmp_path / "c"
    stub = Stub(grade=by_title, change=weak)
    with serving(stub) as url:
        with client(url, cache=path) as judge:
            judged = judge.grade(*numbered(3))
            np.testing.assert_allclose(judged.label_mass, 0.6, atol=1e-6)
        with client(url, cache=path, min_label_mass=0.7) as judge:
            again = judge.grade(*numbered(3))
            assert (again.cached, again.asked, again.unanswered) == (0, 3, 3)
            assert "judge.min_label_mass wants 0.7" in again.problem
        with client(url, cache=path, min_label_mass=0.59) as judge:
            assert judge.grade(*numbered(3)).cached == 3
        stub.change = lambda answer: answer
        with client(url, cache=path, min_label_mass=0.7) as judge:
            assert judge.grade(*numbered(3)).asked == 3
            assert judge.grade(*numbered(3)).cached == 3


def test_awkward_cache_at_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = colour_shop(tmp_path / "data", source="human")
    path = tmp_path / "c"
    JudgmentCache(path).close()
    arguments = [
        "judge",
        "calibrate",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--set",
        f"judge.cache={path}",
    ]
    with serving(Stub()) as url, locked(path), pytest.raises(SystemExit) as done:
        main([*arguments, "--judge-url", url])
    assert done.value.code == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"taoemb: judge.cache {path}: database is locked; another process keeps it locked")
    assert not (tmp_path / "out").exists()
