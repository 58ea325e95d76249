"""Python's own pauses are short in a server."""

import gc
import sys

from taoemb.hosting.pauses import TURN_S, shorten_turns, spare_what_stays


def test_what_start_up_made_is_not_walked_through_again() -> None:
    made = [[number] for number in range(1000)]
    try:
        spare_what_stays()
        assert gc.get_freeze_count() > len(made)
        assert not any(one is made for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_threads_take_short_turns() -> None:
    before = sys.getswitchinterval()
    try:
        shorten_turns()
        assert abs(sys.getswitchinterval() - TURN_S) < 1e-6
    finally:
        sys.setswitchinterval(before)
