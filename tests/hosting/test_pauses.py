"""Python's own pauses are short in a server."""

import gc

from taoemb.hosting.pauses import spare_what_stays


def test_what_start_up_made_is_not_walked_through_again() -> None:
    made = [[number] for number in range(1000)]
    try:
        spare_what_stays()
        assert gc.get_freeze_count() > len(made)
        assert not any(one is made for one in gc.get_objects())
    finally:
        gc.unfreeze()
