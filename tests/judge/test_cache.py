"""The judgment cache under several threads and processes at once."""

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.errors import InputError
from taoemb.judge.answers import Judgment
from taoemb.judge.cache import JudgmentCache, key_maker

PROBS = Judgment((0.125, 0.25, 0.5, 0.125), 0.9)


def write(path: Path, worker: int, start: object) -> None:
    start.wait(30)  # type: ignore[attr-defined]
    cache = JudgmentCache(path)
    key_of = key_maker("judge", "prompt")
    for part in range(20):  # every worker writes its own keys and keys that all write
        own = [(key_of("own", f"{worker} {part} {i}"), PROBS) for i in range(10)]
        common = [(key_of("common", f"{part} {i}"), PROBS) for i in range(10)]
        cache.put(own + common)
        assert len(cache.get([key for key, _ in own])) == 10
    cache.close()


def test_several_processes_write_one_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    path = tmp_path / "deep" / "cache.sqlite"
    workers = [context.Process(target=write, args=(path, worker, start)) for worker in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM judgments").fetchone()[0] == 3 * 200 + 200
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_new_file_that_another_process_is_opening_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "c", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ready = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    ready.start()
    cache = JudgmentCache(tmp_path / "c")
    ready.join()
    assert cache.get([b"a" * 32]) == {}


def test_several_threads_share_one_cache(tmp_path: Path) -> None:
    cache = JudgmentCache(tmp_path / "c")
    key_of = key_maker("judge", "prompt")

    def work(worker: int) -> None:
        for i in range(50):
            cache.put([(key_of("q", f"{worker} {i}"), PROBS)])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [key_of("q", f"{worker} {i}") for worker in range(8) for i in range(50)]
    assert len(cache.get(keys)) == 400


def test_judgments_outlive_the_process_and_the_first_one_stays(tmp_path: Path) -> None:
    cache = JudgmentCache(tmp_path / "c")
    cache.put([(b"a" * 32, PROBS)])
    cache.put([(b"a" * 32, Judgment((1.0, 0.0, 0.0, 0.0), 1.0)), (b"b" * 32, Judgment((0.0, 0.0, 0.0, 1.0), 1.0))])
    cache.put([])
    cache.close()
    again = JudgmentCache(tmp_path / "c").get([b"a" * 32, b"b" * 32, b"c" * 32])
    assert again == {b"a" * 32: PROBS, b"b" * 32: Judgment((0.0, 0.0, 0.0, 1.0), 1.0)}


def test_more_keys_than_one_statement_takes(tmp_path: Path) -> None:
    cache = JudgmentCache(tmp_path / "c")
    keys = [np.int64(i).tobytes() * 4 for i in range(1700)]
    cache.put((key, PROBS) for key in keys)
    assert cache.get(keys) == dict.fromkeys(keys, PROBS)
    assert cache.get([]) == {}


@given(st.tuples(st.text(), st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text(), st.text()))
def test_keys_are_equal_only_for_equal_parts(one: tuple, other: tuple) -> None:
    def key(parts: tuple) -> bytes:
        return key_maker(parts[0], parts[1])(parts[2], parts[3])

    assert (key(one) == key(other)) == (one == other)
    shifted = (one[0], one[1], one[2] + "x", one[3])
    assert key(shifted) != key((one[0], one[1], one[2], "x" + one[3]))


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"judge\.cache .*cache\.sqlite.*delete the file"):
        JudgmentCache(path)
    assert path.read_bytes() == content


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE judgments (name TEXT)")
    with pytest.raises(InputError, match=r"other\.sqlite"):
        JudgmentCache(path)


def test_a_folder_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"judge\.cache"):
        JudgmentCache(tmp_path)
