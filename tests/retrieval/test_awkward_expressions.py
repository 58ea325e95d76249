"""Ids are data in every expression: whatever one holds, exactly the named rows are read, replaced and deleted."""

import ast
import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from milvus_lite.search.filter.tokens import TokenKind, tokenize

from taoemb.config import MilvusConfig
from taoemb.limits import ID_BYTES, id_problem
from taoemb.retrieval import milvus
from taoemb.retrieval.expressions import among, as_sent, equals, quoted
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.retrieval.registry import ReleaseEntry, now
from tests.retrieval.tiny_shop import shop, write_items

CRAFTED = (
    "o'neil-1",
    "z'] or item_id not in ['zz",
    'z"] or item_id not in ["zz',
    'a" or item_id != "',
    "ends in \\",
    "\\",
    '\\"',
    "\\\\'",
    "\\n",
    "\\u0041",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\0b",
    "\x7f\x85\u2028",
    "{ids}",
    "%",
    "_",
    " a ",
    "İ",
    "日本",
    "𠮷野家",
    "🙂",
    "e\u0301",
    "é",
)
any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ids = any_text | st.text("'\"\\]}{ \n\t\0or", min_size=1, max_size=12) | st.sampled_from(CRAFTED)


@given(any_text | st.text("'\"\\]}{\n\t\0", max_size=12))
@settings(max_examples=500, deadline=None)
def test_a_literal_is_one_string_for_the_parser(text: str) -> None:
    tokens = [token for token in tokenize(among("item_id", [text, "b"])) if token.kind is TokenKind.STRING]
    assert [token.value for token in tokens] == [text, "b"]
    assert len(tokenize(equals("item_id", text))) == 4  # the field, ==, the string, the end


@given(any_text | st.text("\\u0041\\U\"'𠮷日\n", max_size=12))
@settings(max_examples=500, deadline=None)
def test_a_server_gets_beyond_16_bits_as_escapes(text: str) -> None:
    """In ASCII the grammar's escapes are those of Go and of Python."""
    sent = as_sent(quoted(text), lite=False)
    assert sent.isascii() or max(text) <= "\uffff"
    if sent.isascii() and "\0" not in text:  # Python's parser takes no NUL
        assert ast.literal_eval(sent) == text
    assert as_sent(quoted(text), lite=True) == quoted(text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusStore]:
    folder = tmp_path_factory.mktemp("ids")
    with MilvusStore(MilvusConfig(uri=str(folder / "milvus.db"), index="FLAT", batch=7)) as store:
        store.create_collection("c", 2, "cosine", [], "item")
        yield store


def rows(names: list[str], number: int) -> list[dict]:
    return [
        {"item_id": name, "vector": np.array([number, 1], np.float32), "row_hash": number, "title": name}
        for name in names
    ]


def stored(store: MilvusStore) -> dict[str, int]:
    parts = list(store.hashes("c"))
    return {name: int(value) for names, hashes in parts for name, value in zip(names, hashes, strict=True)}


@given(st.lists(ids, unique=True, min_size=4, max_size=16), st.integers(1, 16))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_awkward_ids_touch_exactly_the_named_rows(store: MilvusStore, names: list[str], count: int) -> None:
    """Also ids that a dataset may not hold: an older version has published them, and they must be deletable."""
    store.upsert("c", rows(names, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(milvus, "_PAGE", 3)
        assert stored(store) == dict.fromkeys(names, 1), "pages go on after any id"
    some, others = names[:count], names[count:]
    found, vectors = store.vectors("c", some)
    assert sorted(found) == sorted(some)
    assert vectors.shape == (len(some), 2)
    store.upsert("c", rows(some, 2))
    assert stored(store) == dict.fromkeys(names, 1) | dict.fromkeys(some, 2)
    store.delete("c", some)
    assert stored(store) == dict.fromkeys(others, 1)
    store.delete("c", others)
    assert store.count("c") == 0


def test_awkward_registry_keys_are_deleted_alone(store: MilvusStore) -> None:
    entries = [
        ReleaseEntry(f"digest{n}{text}", "item", "c", "alias", "retired", "", 0, now())
        for n, text in enumerate(['" or key != "', "\\", "'"])
    ]
    store.registry.write(entries)
    store.registry.delete(entries[:1])
    assert {entry.digest for entry in store.registry.releases()} == {entry.digest for entry in entries[1:]}
    store.registry.delete(entries[1:])


def test_awkward_ids_come_and_go_and_the_others_stay(releases, config, tmp_path) -> None:
    crafted = [{"item_id": name, "title": "red oak sofa"} for name in CRAFTED if id_problem(name) is None]
    assert len(crafted) > 12
    for number, items in enumerate([shop(30), shop(30) + crafted, shop(30) + crafted[1::2], shop(30)]):
        done = publish(releases.base, write_items(tmp_path / f"data{number}", items), config)
        assert (done.items, done.recall) == (len(items), 1.0)
        with MilvusStore(config) as store:
            kept = sorted(name for names, _ in store.hashes(done.collection) for name in names)
        assert kept == sorted(item["item_id"] for item in items)


def test_awkward_publish_through_the_command(releases, tmp_path, run_cli) -> None:
    """Base, base and a crafted id, base: every step ends with 0 and a search still finds the base."""
    base = shop(30)
    crafted = [*base, {"item_id": "z'] or item_id not in ['zz", "title": "Harmless"}]
    for number, items in enumerate((base, crafted, base)):
        data = write_items(tmp_path / f"data{number}", items)
        done = run_cli("publish", "--release", releases.base.path, "--data", data, "--milvus", tmp_path / "m.db")
        assert done.code == 0, done.err
        assert json.loads(done.out)["items"] == len(items)
    found = run_cli("search", "red sofa", "--milvus", tmp_path / "m.db", "-k", 100)
    assert len(json.loads(found.out)["hits"]) == 30
    assert re.fullmatch(r"[0-9a-f]+", json.loads(found.out)["release"])


def test_the_longest_ids_are_deleted_in_one_request(store: MilvusStore) -> None:
    names = [f"{n:04d}" + "\\" * (ID_BYTES - 4) for n in range(20)]
    store.upsert("c", rows(names, 1))
    store.delete("c", names)
    assert store.count("c") == 0
