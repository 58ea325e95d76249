"""One rule for ids and texts: the dataset's vectorised checks and the rule of a single id never differ."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.data.checks import FirstViolation, stream
from taoemb.data.files import write_table
from taoemb.data.validate import validate
from taoemb.errors import InputError
from taoemb.limits import ID_BYTES, QUERY_CHARACTERS, cut, id_problem, without_controls

LONGEST = ("x" * ID_BYTES, "é" * (ID_BYTES // 2), "🙂" * (ID_BYTES // 4))
REFUSED = (
    "a\nb",
    "a\rb",
    "a\tb",
    "a\0b",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    *(text + "x" for text in LONGEST),
    " ",
    "\u3000",
)


def items(folder: Path, ids: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "items.parquet", pa.table({"item_id": ids, "title": ["lamp"] * len(ids)}))
    return folder


def queries(folder: Path, ids: list[str], texts: list[str]) -> Path:
    items(folder, ["a"])
    write_table(folder / "queries.parquet", pa.table({"query_id": ids, "text": texts}))
    return folder


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(LONGEST + REFUSED))
@settings(max_examples=300, deadline=None)
def test_awkward_ids_are_refused_by_both_rules_or_by_none(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = items(tmp_path_factory.getbasetemp() / "one-id", [text])
    problem = id_problem(text)
    if problem is None:
        assert len(list(stream(folder, "items", FirstViolation(folder)))) == 1
    else:
        with pytest.raises(InputError, match=problem):
            list(stream(folder, "items", FirstViolation(folder)))


@pytest.mark.parametrize("text", REFUSED)
def test_awkward_ids_are_named_by_row_and_column(tmp_path: Path, text: str) -> None:
    [violation] = validate(items(tmp_path, ["a", text])).violations
    assert (violation.file, violation.row, violation.column) == ("items.parquet", 1, "item_id")
    [violation] = validate(queries(tmp_path, ["a", text], ["lamp", "rug"])).violations
    assert (violation.file, violation.row, violation.column) == ("queries.parquet", 1, "query_id")


@pytest.mark.parametrize(
    ("text", "says"),
    [("x" * (QUERY_CHARACTERS + 1), "is longer than 4,000 characters"), ("a\0", "has a NUL character")],
)
def test_awkward_query_texts_that_no_gateway_takes_are_refused(tmp_path: Path, text: str, says: str) -> None:
    [violation] = validate(queries(tmp_path, ["q0", "q1"], ["x" * QUERY_CHARACTERS, text])).violations
    assert (violation.row, violation.column) == (1, "text")
    assert says in violation.problem


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(1, 30))
def test_a_cut_text_fits_and_is_the_start(text: str, limit: int) -> None:
    kept = cut(text, limit)
    assert text.startswith(kept)
    assert len(kept.encode()) <= limit
    assert kept == text or len(text[: len(kept) + 1].encode()) > limit


def test_controls_become_spaces() -> None:
    assert without_controls("a\tb\0c\u2028d\x9fe é") == "a b c d e é"
