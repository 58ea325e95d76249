"""The spool as a queue that processes share: what was appended stays until a taker has written and removed it."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taoemb.serving.events.spool import Spool, take


class SharedSpool(RuleBasedStateMachine):
    """Writers append, seal and die; a taker removes what it wrote, or dies before it could."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.writers = [Spool(self.folder) for _ in range(3)]
        self.appended: list[bytes] = []
        self.written: set[bytes] = set()

    writer = st.integers(0, 2)

    @rule(who=writer, text=st.binary(max_size=30))
    def append(self, who, text):
        line = b"%d %s\n" % (len(self.appended), text.hex().encode())
        self.writers[who].append(line)
        self.appended.append(line)

    @rule(who=writer, sync=st.booleans())
    def seal(self, who, sync):
        self.writers[who].seal(sync=sync)

    @rule(who=writer)
    def die_and_start_again(self, who):
        self.writers[who].seal()  # to the file system a killed process looks the same: its lock is gone
        self.writers[who] = Spool(self.folder)

    @rule(finishes=st.booleans(), who=writer)
    def take_the_oldest(self, finishes, who):
        for path in self.writers[who].waiting():
            with take(path) as segment:
                if segment is None:
                    continue
                with take(path) as second:
                    assert second is None
                self.written.update(segment.lines)
                if finishes:
                    path.unlink()
            return

    @invariant()
    def nothing_is_lost(self):
        there = set()
        for path in self.writers[0].waiting():
            there.update(path.read_bytes().splitlines(keepends=True))
        assert set(self.appended) == there | self.written
        assert self.written <= set(self.appended)

    def teardown(self):
        for writer in self.writers:
            writer.seal()
        self._folder.cleanup()


TestSharedSpool = SharedSpool.TestCase
TestSharedSpool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_half_a_line_at_the_end_is_left_out(tmp_path):
    spool = Spool(tmp_path)
    spool.append(b"whole\n")
    spool.append(b"half")
    spool.seal()
    (path,) = [one for one in spool.waiting() if one.stat().st_size]
    with take(path) as segment:
        assert segment.lines == [b"whole\n"]


def test_an_open_segment_is_nobody_elses(tmp_path):
    spool = Spool(tmp_path)
    spool.append(b"one\n")
    (path,) = [one for one in spool.waiting() if one.stat().st_size]
    with take(path) as segment:
        assert segment is None
    assert spool.lag_s(10**12) > 0
    spool.seal()
    with take(path) as segment:
        assert segment.belongs_to(spool)
        assert not segment.belongs_to(Spool(tmp_path))
    path.unlink()
    with take(path) as segment:
        assert segment is None


def test_a_spool_takes_no_more_than_it_may_until_rows_have_left(tmp_path):
    spool = Spool(tmp_path, most_bytes=100)
    for _ in range(2):
        spool.append(b"x" * 39 + b"\n")
        spool.seal()
    with pytest.raises(OSError, match=r"events\.spool_mb"):
        spool.append(b"x" * 39 + b"\n")
    spool.append(b"x" * 9 + b"\n")
    spool.seal()
    assert sum(path.stat().st_size for path in spool.waiting()) == 90, "what is refused leaves nothing behind"
    for path in spool.waiting():
        path.unlink()
    spool.append(b"x" * 39 + b"\n")
