"""A dataset's name follows from its rows: not from its place or its packing, and from every cell."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taoemb.data.dataset import open_dataset
from taoemb.data.fingerprint import table_fingerprint, training_fingerprints
from tests.training.shop import write_shop

TEXTS = st.none() | st.text(max_size=4)
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.none() | st.floats(allow_nan=False, width=32),
        st.none() | st.booleans(),
        st.none() | st.lists(st.tuples(st.text(max_size=2), TEXTS), max_size=2, unique_by=lambda pair: pair[0]),
    ),
    max_size=8,
)
SCHEMA = pa.schema(
    [("t", pa.string()), ("f", pa.float32()), ("b", pa.bool_()), ("m", pa.map_(pa.string(), pa.string()))]
)


def table(rows):
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


@given(ROWS, st.integers(1, 5), st.sampled_from(["none", "snappy", "zstd"]), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_awkward_packing_of_the_same_rows_does_not_matter(tmp_path, rows, group, compression, dictionary):
    whole = table(rows)
    pq.write_table(
        whole.replace_schema_metadata({"by": "someone"}),
        tmp_path / "t.parquet",
        row_group_size=group,
        compression=compression,
        use_dictionary=dictionary,
    )
    batches = list(pq.ParquetFile(tmp_path / "t.parquet").iter_batches(batch_size=group))
    read = pa.Table.from_batches(batches, SCHEMA)
    assert table_fingerprint(read) == table_fingerprint(whole)
    assert table_fingerprint(pa.concat_tables([whole, whole]).slice(len(whole))) == table_fingerprint(whole)


@given(ROWS, ROWS)
@settings(deadline=None)
def test_awkward_rows_that_differ_have_other_names(one, other):
    assert (table_fingerprint(table(one)) == table_fingerprint(table(other))) == (
        repr(table(one).to_pylist()) == repr(table(other).to_pylist())
    )


@pytest.mark.parametrize(
    ("name", "column"), [("items", "title"), ("items", "signal_sales"), ("queries", "text"), ("pairs", "weight")]
)
def test_awkward_one_changed_cell_of_a_dataset_is_seen_and_its_place_is_not(name, column, tmp_path):
    before = training_fingerprints(open_dataset(write_shop(tmp_path / "a")))
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert training_fingerprints(open_dataset(tmp_path / "b")) == before
    path = tmp_path / "b" / f"{name}.parquet"
    stored = pq.read_table(path)
    rows = stored.to_pylist()
    rows[7][column] = rows[7][column] + (" x" if isinstance(rows[7][column], str) else 1)
    pq.write_table(pa.Table.from_pylist(rows, stored.schema), path)
    after = training_fingerprints(open_dataset(tmp_path / "b"))
    assert {key for key in before if after[key] != before[key]} == {name}
