"""The contract of a dataset folder: four Parquet files, their columns and types.

Readers accept what other tools write for the same thing (large or dictionary-encoded strings, wider integers, float32
prices, a list of key-value structs for a map) and hand out exactly these types.
"""

import pyarrow as pa

SIGNAL_PREFIX = "signal_"
SIGNAL = pa.float32()  # quality signals; higher is better in every one of them
GRADES = {4: "Excellent", 3: "Related", 2: "Mismatch", 1: "Irrelevant"}

ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("brand", pa.string()),
        ("category", pa.string()),
        ("description", pa.string()),
        ("price", pa.float64()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
QUERIES = pa.schema([("query_id", pa.string()), ("text", pa.string()), ("slices", pa.list_(pa.string()))])
PAIRS = pa.schema([("query_id", pa.string()), ("item_id", pa.string()), ("weight", pa.float32())])
JUDGMENTS = pa.schema(
    [("query_id", pa.string()), ("item_id", pa.string()), ("grade", pa.int8()), ("source", pa.string())]
)
RULE_SOURCE = "rule"  # judgments' source where grades follow from rules; any other name says who graded
SPEC = pa.field("spec", pa.string())  # extra column of generated queries: what was asked for, as JSON (oracle.py)

SCHEMAS = {"items": ITEMS, "queries": QUERIES, "pairs": PAIRS, "judgments": JUDGMENTS}
# Columns that must be there and never null; every other column of the contract may be absent.
REQUIRED = {
    "items": ("item_id", "title"),
    "queries": ("query_id", "text"),
    "pairs": ("query_id", "item_id"),
    "judgments": ("query_id", "item_id", "grade"),
}


def file_name(table: str) -> str:
    """The file that holds a table ("items" → "items.parquet")."""
    return f"{table}.parquet"


def wanted_type(table: str, column: str) -> pa.DataType | None:
    """The contract's type of a column; None for an extra column, which is kept as it is."""
    schema = SCHEMAS[table]
    if column in schema.names:
        return schema.field(column).type
    if table == "items" and column.startswith(SIGNAL_PREFIX):
        return SIGNAL
    if table == "queries" and column == SPEC.name:
        return SPEC.type
    return None


def compatible(have: pa.DataType, want: pa.DataType) -> bool:
    """Whether a column of type `have` can be read as `want` without loss of meaning."""
    if pa.types.is_dictionary(have):
        have = have.value_type
    if pa.types.is_null(have) or have == want:
        return True
    if pa.types.is_string(want):
        return pa.types.is_large_string(have) or pa.types.is_string_view(have)
    if pa.types.is_floating(want):
        return pa.types.is_floating(have) or pa.types.is_integer(have) or pa.types.is_decimal(have)
    if pa.types.is_integer(want):
        return pa.types.is_integer(have)
    if pa.types.is_map(want):
        return _entries_compatible(have, want)
    if pa.types.is_list(want):
        is_list = pa.types.is_list(have) or pa.types.is_large_list(have) or pa.types.is_fixed_size_list(have)
        return is_list and compatible(have.value_type, want.value_type)
    return False


def _entries_compatible(have: pa.DataType, want: pa.DataType) -> bool:
    if pa.types.is_map(have):
        parts = (have.key_type, have.item_type)
    elif pa.types.is_list(have) or pa.types.is_large_list(have):
        entry = have.value_type
        if not pa.types.is_struct(entry) or [entry.field(i).name for i in range(entry.num_fields)] != ["key", "value"]:
            return False
        parts = (entry.field(0).type, entry.field(1).type)
    else:
        return False
    return compatible(parts[0], want.key_type) and compatible(parts[1], want.item_type)


def conform(column: pa.Array, want: pa.DataType) -> pa.Array:
    """Cast a compatible column to the contract's type. Raises pa.ArrowInvalid when a value does not fit."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == want:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), want)
    if pa.types.is_map(want):
        return _as_map(column, want)
    if pa.types.is_floating(want):
        return column.cast(want, safe=False)
    return column.cast(want)


def _as_map(column: pa.Array, want: pa.MapType) -> pa.Array:
    if pa.types.is_large_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    column = pa.concat_arrays([column])  # offsets below count from the array's own start
    if pa.types.is_map(column.type):
        keys, values = column.keys, column.items
    else:
        entries = column.values
        keys, values = entries.field(0), entries.field(1)
    mask = column.is_null() if column.null_count else None
    keys, values = conform(keys, want.key_type), conform(values, want.item_type)
    return pa.MapArray.from_arrays(column.offsets, keys, values, type=want, mask=mask)
