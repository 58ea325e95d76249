"""Training queries made from a catalogue: graded by its structure, blind to judgments, the same for a seed."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.config import QueryGenerationConfig
from taoemb.data.dataset import open_dataset
from taoemb.data.facets import brand_name, measures
from taoemb.data.lexicon import everyday
from taoemb.data.mining import mine, read_chunks
from taoemb.data.queries import Rules, generate_queries
from taoemb.data.query_writer import Asked
from taoemb.data.schemas import ITEMS
from taoemb.data.validate import validate
from taoemb.data.words import near_duplicate_key, tokens
from taoemb.errors import InputError

CHORUS = Path("../shared/data/chorus")
TABLES = ("queries", "pairs", "judgments")
COLOURS = ("Black", "White", "Red")
BRANDS = ("Acme", "Bolt Technology", "Corvo.com")
THINGS = ("optical mouse", "toner cartridge", "notebook", "notebook case")


def records() -> list[dict]:
    """A small noisy catalogue: brand × thing × colour × size, in the manner of a product feed."""
    made = []
    for b, brand in enumerate(BRANDS):
        series = ("LaserWing", "NightOwl", "PowerHawk")[b]
        for t, thing in enumerate(THINGS):
            for c, colour in enumerate(COLOURS):
                for size in (8, 16):
                    model = f"{brand[:2].upper()}{t}{c}{size}X"
                    attributes = {
                        "product_colour": colour,
                        "package_weight": "1.0",
                        "bluetooth": "true" if c else "false",
                    }
                    if "cartridge" in thing:
                        attributes["compatibility"] = "Jet 4250, Jet 5150"
                    title = f"{brand} {series} {model} {thing} {size} GB {colour}"
                    made.append({"item_id": f"i{len(made)}", "title": title, "brand": brand, "attributes": attributes})
    notes = "Bluetooth device. Two toner cartridges, notebooks and mice, all with bluetooth in black"
    return [{"category": None, "price": None, "description": notes, **record} for record in made]


def write(root: Path, items: list[dict], judged: bool = False) -> Path:
    root.mkdir()
    rows = [{**item, "attributes": list(item["attributes"].items())} for item in items]
    pq.write_table(pa.Table.from_pylist(rows, schema=ITEMS), root / "items.parquet")
    if judged:
        pq.write_table(pa.table({"query_id": ["h"], "text": ["acme mouse"]}), root / "queries.parquet")
        judgments = {"query_id": ["h"], "item_id": ["i0"], "grade": [4]}
        pq.write_table(pa.table(judgments), root / "judgments.parquet")
    return root


def digests(root: Path) -> dict[str, str]:
    return {name: hashlib.sha256((root / f"{name}.parquet").read_bytes()).hexdigest() for name in TABLES}


CONFIG = QueryGenerationConfig(count=120, graded_per_query=10, max_positives=3)


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("queries")
    generate_queries(write(root / "in", records()), root / "out", CONFIG)
    return root


def test_the_result_is_a_dataset_with_every_part(generated):
    report = validate(generated / "out")
    assert report.violations == []
    assert report.counts["queries"] == 120
    assert set(report.slices) <= set(CONFIG.kinds)
    assert {"brand-type", "attribute", "model", "compatible"} <= set(report.slices)
    assert set(report.sources) == {"rule"}
    data = open_dataset(generated / "out")
    assert np.bincount(data.judgments.query_rows).max() <= 10
    assert np.bincount(data.pairs.query_rows[data.pairs.weights > 0]).max() <= 3
    assert len(set(data.queries.texts)) == 120
    longer = [text for text, kinds in zip(data.queries.texts, data.queries.slices, strict=True) if kinds != ("type",)]
    assert len({near_duplicate_key(text) for text in longer}) == len(longer)
    assert all(text == text.lower() for text in data.queries.texts)
    assert sum(len(text.split()) <= 5 for text in data.queries.texts) > 90


def test_positives_say_what_the_query_says(generated):
    """Every grade-4 item carries the brand, the colour and the model that the query names."""
    data = open_dataset(generated / "out")
    wanted = [*(word.lower() for word in COLOURS), "acme", "bolt", "corvo"]
    checked = 0
    for row, item, grade in zip(
        data.judgments.query_rows, data.judgments.item_rows, data.judgments.grades, strict=True
    ):
        spec = json.loads(data.queries.specs[row])
        title = data.items.records(np.array([item]))[0]["title"].lower()
        words = set(tokens(data.queries.texts[row]))
        if grade == 4 and spec["kind"] in ("attribute", "brand-attribute", "brand-type"):
            assert all(word in title for word in wanted if word in words), (words, title)
            checked += 1
    assert checked > 50


def test_further_answers_are_pairs_of_weight_0(generated, tmp_path):
    """All grade-4 items of a query are known, so that none of them is taken for a negative."""
    data = open_dataset(generated / "out")
    rules = Rules(mine(data.items.records(np.arange(len(data.items)))))
    for row in range(20):
        spec = json.loads(data.queries.specs[row])
        if spec["kind"] != "type":
            continue
        grades = rules.grade(Asked("", "type", 0, tuple(spec["type"].split()), (), ()))
        of_query = data.pairs.query_rows == row
        assert sorted(data.pairs.item_rows[of_query]) == np.flatnonzero(grades == 4).tolist()
        assert (data.pairs.weights[of_query] == 1).sum() == 3
    few = CONFIG.model_copy(update={"max_known": 0})
    generate_queries(generated / "in", tmp_path / "few", few)
    assert (open_dataset(tmp_path / "few").pairs.weights == 1).all()


def test_human_judgments_are_never_read(generated, tmp_path):
    blind = digests(generated / "out")
    generate_queries(write(tmp_path / "in", records(), judged=True), tmp_path / "out", CONFIG)
    assert digests(tmp_path / "out") == blind
    (tmp_path / "in" / "judgments.parquet").write_bytes(b"unreadable")
    (tmp_path / "in" / "queries.parquet").write_bytes(b"unreadable")
    generate_queries(tmp_path / "in", tmp_path / "again", CONFIG)
    assert digests(tmp_path / "again") == blind


def test_a_seed_gives_the_same_in_another_process(generated, tmp_path):
    code = (
        "import sys; from pathlib import Path; from taoemb.config import QueryGenerationConfig;"
        "from taoemb.data.queries import generate_queries;"
        "generate_queries(Path(sys.argv[1]), Path(sys.argv[2]), QueryGenerationConfig.model_validate_json(sys.argv[3]))"
    )
    args = [sys.executable, "-c", code, str(generated / "in"), str(tmp_path / "out"), CONFIG.model_dump_json()]
    subprocess.run(args, check=True, env={**os.environ, "PYTHONHASHSEED": "77"}, timeout=60)
    assert digests(tmp_path / "out") == digests(generated / "out")
    generate_queries(generated / "in", tmp_path / "other", CONFIG.model_copy(update={"seed": 1}))
    assert digests(tmp_path / "other")["queries"] != digests(tmp_path / "out")["queries"]


MINED = mine(records())
RULES = Rules(MINED)
MOUSE, TONER, NOTEBOOK, CASE = (("mouse",), ("toner", "cartridge"), ("notebook",), ("notebook", "case"))


def best(query: Asked) -> dict[int, Counter]:
    """Grade → things that got it."""
    grades = RULES.grade(query)
    found: dict[int, Counter] = {}
    for grade, record in zip(grades.tolist(), records(), strict=True):
        thing = next(thing for thing in reversed(THINGS) if thing in record["title"])
        found.setdefault(grade, Counter())[f"{record['brand'].split()[0]} {thing}"] += 1
    return found


def ask(kind: tuple | None, soft: list = (), hard: list = (), anchor: int = 0) -> dict[int, Counter]:
    return best(Asked("text", "kind", anchor, kind, tuple(soft), tuple(hard)))


def test_types_are_mined_from_titles():
    assert {item.types[0] for item in MINED.items} == {MOUSE, TONER, NOTEBOOK, CASE}
    assert ("type", ("laptop",)) in MINED.rows, "another word for the same product"
    kinds = Counter(facet[0] for facet in MINED.items[0].facets)
    assert kinds == {"brand": 1, "series": 1, "model": 1, "measure": 1, "value": 1, "lacks": 1}


def test_a_type_query():
    found = ask(NOTEBOOK)
    assert set(found[4]) == {"Acme notebook", "Bolt notebook", "Corvo.com notebook"}
    assert {"Acme notebook case", "Bolt notebook case"} <= set(found[2]), "an accessory names the thing"
    assert not any(key.split(" ", 1)[1] == "notebook" for key in found.get(1, {}))


def test_a_brand_and_a_colour_may_be_missed_one_at_a_time():
    found = ask(MOUSE, soft=[("brand", "bolt"), ("value", "red")])
    assert found[4] == {"Bolt optical mouse": 2}
    assert found[3] == {"Bolt optical mouse": 4, "Acme optical mouse": 2, "Corvo.com optical mouse": 2}
    assert found[2]["Acme optical mouse"] == 4


def test_a_brand_alone():
    brand = ("brand", "acme")
    items = [*records(), {**records()[-1], "item_id": "x", "title": "Corvo.com case for Acme notebooks"}]
    query = Asked("acme", "brand", 0, None, (), (brand,))
    grades = Rules(mine(items)).grade(query)
    assert [record["brand"] == "Acme" for record in items] == (grades == 4).tolist()
    assert grades[-1] == 2, "it goes with the brand"


def test_a_model_is_not_to_be_missed():
    row = next(i for i, record in enumerate(records()) if "toner" in record["title"])
    model = next(facet for facet in MINED.items[row].facets if facet[0] == "model")
    found = ask(TONER, hard=[model], anchor=row)
    assert found[4].total() == 1
    assert set(found[3]) == {"Acme toner cartridge"}, "another model of the same series"
    assert "Bolt toner cartridge" in found[1]
    assert "Acme optical mouse" in found[1]


def test_a_lacking_feature():
    found = ask(NOTEBOOK, hard=[("lacks", "bluetooth")])
    assert found[4].total() == 6
    assert all(key.endswith("notebook") for key in found[4])
    assert sum(count for key, count in found[2].items() if key.endswith(" notebook")) >= 4


def test_items_of_unknown_type_are_not_graded_for_a_type():
    items = [*records(), {**records()[0], "item_id": "x", "title": "Acme QX-77A", "description": None}]
    mined = mine(items)
    assert mined.items[-1].types == []
    assert Rules(mined).grade(Asked("mouse", "type", 0, MOUSE, (), ()))[-1] == 0


@pytest.mark.parametrize(
    ("title", "brand", "chunks"),
    [
        ("HP 122A toner cartridge Original Black 1 pc(s)", "HP", [("toner", "cartridge")]),
        ("StarTech.com 75ft Monitor VGA Cable - HD15 M/M", "StarTech.com", [("cable",)]),
        ("C2G Patch Cable networking cable 10 m", "C2G", [("patch", "cable"), ("networking", "cable")]),
        ("Cleaning kit for notebooks", None, [("cleaning", "kit")]),
        ("Desk lamp, bedside lamps", None, [("desk", "lamp"), ("bedside", "lamp")]),
    ],
)
def test_reading_titles(title, brand, chunks):
    assert read_chunks(title, brand, everyday().endings)[0] == chunks


def test_reading_measures_and_brands():
    assert set(measures('Notebook 43.9 cm (17.3") 16 GB, 2-port')) == {
        ("measure", (17.3, "inch")),
        ("measure", (17.0, "inch")),
        ("measure", (16.0, "gb")),
        ("measure", (2.0, "port")),
    }
    assert [brand_name(name) for name in ("StarTech.com", "Kingston Technology", "", None)] == [
        "startech",
        "kingston",
        None,
        None,
    ]


def test_kinds_that_shoppers_never_type_can_be_left_out(generated, tmp_path):
    only = {"type": 0, "brand": 0, "model": 1} | dict.fromkeys(set(CONFIG.kinds) - {"type", "brand", "model"}, 0)
    result = generate_queries(
        generated / "in", tmp_path / "out", QueryGenerationConfig.model_validate({"count": 10, "kinds": only})
    )
    assert result["model"] == result["queries"] == 10
    assert QueryGenerationConfig.model_validate({"kinds": {"model": 0}}).kinds == CONFIG.kinds | {"model": 0}
    for wrong in ({"modle": 1}, {"model": -1}, dict.fromkeys(CONFIG.kinds, 0)):
        with pytest.raises(ValueError, match=r"no such kind|shares"):
            QueryGenerationConfig.model_validate({"kinds": wrong})


def test_bad_input(tmp_path):
    root = write(tmp_path / "in", records())
    with pytest.raises(InputError, match="the input folder too"):
        generate_queries(root, root, CONFIG)
    items = [{**records()[0], "item_id": f"i{i}", "title": f"{i}", "brand": None, "attributes": {}} for i in range(5)]
    for item in items:
        item["description"] = None
    with pytest.raises(InputError, match="no query can be made"):
        generate_queries(write(tmp_path / "numbers", items), tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_a_small_catalogue_gives_fewer_queries(tmp_path):
    root = write(tmp_path / "in", records()[:12])
    result = generate_queries(root, tmp_path / "out", QueryGenerationConfig(count=1000))
    assert 20 < result["queries"] < 1000


@pytest.mark.skipif(
    not CHORUS.is_dir(),
    reason=f"needs the catalogue of github.com/querqy/chorus in {CHORUS}: turn it into JSON Lines of items and run "
    f"`taoemb data import jsonl FILE --out {CHORUS}`",
)
def test_a_real_catalogue(tmp_path):
    """Every fifth item of a real, messy catalogue: products are found, and queries look like what people type."""
    table = pq.read_table(CHORUS / "items.parquet")
    (tmp_path / "in").mkdir()
    pq.write_table(table.take(pa.array(np.arange(0, len(table), 5))), tmp_path / "in" / "items.parquet")
    generate_queries(tmp_path / "in", tmp_path / "out", QueryGenerationConfig(count=400))
    data = open_dataset(tmp_path / "out")
    assert len(data.queries) == 400
    lengths = [len(text.split()) for text in data.queries.texts]
    assert np.mean(lengths) < 4.5
    asked = {json.loads(spec)["type"] for spec in data.queries.specs}
    assert len({"toner cartridge", "notebook", "patch cable", "keyboard", "printer", "headphone"} & asked) >= 4
    assert np.bincount(data.judgments.grades, minlength=5)[1:].min() > 300
