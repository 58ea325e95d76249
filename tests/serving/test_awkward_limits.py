"""What one part lets in, every later part can hold: from the import through the store and the gateway to the events."""

import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from taoemb.cli.main import main
from taoemb.config import EventsConfig, GatewayConfig, MilvusConfig
from taoemb.limits import ANSWERS, BRAND_BYTES, CATEGORY_BYTES, ID_BYTES, QUERY_CHARACTERS, UNIT_CHARACTERS, id_problem
from taoemb.retrieval.publish import publish
from taoemb.retrieval.rows import TEXT_BYTES
from taoemb.retrieval.search import search
from taoemb.serving.events.row_check import problem
from taoemb.serving.events.store import EventStore
from taoemb.serving.events.tables import events, pages, units
from taoemb.serving.events.writer import Recorder
from taoemb.serving.gateway.filters import Filters, expression
from taoemb.serving.gateway.models import Event, ItemId, SearchBody
from taoemb.serving.gateway.record import event_row
from tests.retrieval.conftest import make_releases
from tests.serving.event_rows import page

LONGEST = ("x" * ID_BYTES, "é" * (ID_BYTES // 2), "🙂" * (ID_BYTES // 4), "'\"\\" + "a" * (ID_BYTES - 3))
TOO_LONG = tuple(text + "x" for text in LONGEST)


def imported(folder, ids, capsys, expected):
    """Import a table of these ids; what the command printed on standard error."""
    rows = [
        "item_id,title",
        *(f'"{name.replace(chr(34), chr(34) * 2)}",red oak sofa {n}' for n, name in enumerate(ids)),
    ]
    (folder / "items.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as done:
        main(["data", "import", "csv", str(folder / "items.csv"), "--out", str(folder / "data")])
    assert done.value.code == expected
    return capsys.readouterr().err


def test_awkward_longest_ids_go_all_the_way(tmp_path, database, capsys):
    """Import, validate, publish, search, event, and back out of the database."""
    imported(tmp_path, LONGEST, capsys, 0)
    assert pq.read_table(tmp_path / "data" / "items.parquet").column("item_id").to_pylist() == list(LONGEST)
    release = make_releases(tmp_path / "releases").base
    config = MilvusConfig(uri=str(tmp_path / "milvus.db"))
    assert publish(release, tmp_path / "data", config).items == len(LONGEST)
    _, hits = search("red oak sofa", config, release.path)
    assert sorted(hit.item_id for hit in hits) == sorted(LONGEST)
    with Recorder(EventsConfig(url=database, spool=tmp_path / "spool")) as recorder:
        recorder.page(page(request_id="p", items=[{"item_id": name, "score": 1.0} for name in LONGEST]))
        for name in LONGEST:
            row = event_row(Event(type="click", request_id="p", item_id=name))
            assert problem(events, row) is None
            recorder.event(row)
    with EventStore(EventsConfig(url=database)) as store:
        assert sorted(event.item_id for event in store.events(["p"])) == sorted(LONGEST)


@pytest.mark.parametrize("text", TOO_LONG)
def test_awkward_longer_ids_are_refused_at_the_door(tmp_path, capsys, text):
    said = imported(tmp_path, ["a", text], capsys, 2)
    assert "line 3" in said
    assert "'item_id': is longer than 512 bytes" in said
    assert not (tmp_path / "data").exists()
    with pytest.raises(ValidationError):
        TypeAdapter(ItemId).validate_python(text)


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\0b", "\x85", " ", "é" * 256 + "x"])
def test_awkward_ids_are_refused_by_the_gateway_as_by_the_dataset(text):
    assert id_problem(text) is not None
    with pytest.raises(ValidationError):
        Event(type="click", request_id="p", item_id=text)


def test_no_part_has_limits_of_its_own():
    assert pages.c.unit.type.length == units.c.unit.type.length == UNIT_CHARACTERS
    assert events.c.item_id.type.length == ID_BYTES
    assert GatewayConfig(max_query_characters=QUERY_CHARACTERS).max_query_characters == QUERY_CHARACTERS
    with pytest.raises(ValidationError):
        GatewayConfig(max_query_characters=QUERY_CHARACTERS + 1)
    longest = {"query": "x" * QUERY_CHARACTERS, "user": "u" * UNIT_CHARACTERS, "k": ANSWERS}
    assert SearchBody(**longest)
    for name, value in (("query", "x"), ("user", "x"), ("k", 1)):
        with pytest.raises(ValidationError):
            SearchBody(**longest | {name: longest[name] + value})


def test_awkward_brands_are_filtered_as_the_store_keeps_them():
    """Longer than the store's: by what it kept; control characters: by the space in their place."""
    assert TEXT_BYTES["brand"] == BRAND_BYTES
    asked = expression(Filters(brand="é" * BRAND_BYTES, category="c" * CATEGORY_BYTES))
    assert asked == f'brand == "{"é" * (BRAND_BYTES // 2)}" and category == "{"c" * CATEGORY_BYTES}"'
