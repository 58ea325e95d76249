"""Ids that stand twice are found wherever they stand, and ids whose hashes collide are no duplicates."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.data import checks


def repeated(ids: list[str | None], *, chunk: int = 4) -> list[int]:
    """The rows that `check_unique` reports, of a column in chunks."""
    found: list[int] = []
    column = pa.chunked_array([ids[at : at + chunk] for at in range(0, len(ids), chunk)], type=pa.string())
    checks.check_unique(column, "items", "item_id", lambda *said: found.extend(said[3]))
    return found


@given(st.lists(st.sampled_from([None, "a", "b", "c", "dd"]) | st.text(max_size=3), max_size=40))
def test_the_second_and_later_rows_of_an_id_are_reported(ids: list[str | None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "BATCH_ROWS", 3)
        seen: set[str] = set()
        again = [row for row, one in enumerate(ids) if one is not None and (one in seen or seen.add(one))]
        assert repeated(ids) == again


def test_a_collision_of_hashes_is_no_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "hash", lambda one: 0, raising=False)
    assert repeated(["a", "b", None, "c"]) == []
    assert repeated(["a", "b", None, "a"]) == [3]
