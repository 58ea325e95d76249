"""A catalogue in any language gives queries of its own words: no English plural, no English word, no space in a run."""

import hashlib
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.cli.main import main
from taoemb.config import QueryGenerationConfig
from taoemb.data.dataset import open_dataset
from taoemb.data.language import languages, read_language
from taoemb.data.queries import generate_queries
from taoemb.data.query_sources import Sources, find_sources
from taoemb.data.query_writer import Asked
from taoemb.data.schemas import ITEMS
from taoemb.data.scripts import LATIN, is_latin, script_of
from taoemb.data.synth import synthesise
from taoemb.data.validate import validate
from taoemb.data.words import near_duplicate_key, tokens
from taoemb.errors import InputError
from tests.data.languages import SHOPS, records

FOREIGN = tuple(code for code in SHOPS if code != "en")
GLUE = ("for", "with", "without")


def write(root: Path, items: list[dict[str, Any]]) -> Path:
    root.mkdir()
    rows = [{**item, "attributes": list(item["attributes"].items())} for item in items]
    pq.write_table(pa.Table.from_pylist(rows, schema=ITEMS), root / "items.parquet")
    return root


def ask(items: list[dict[str, Any]], count: int = 80, **config: Any) -> tuple[Sources, list[tuple[Asked, np.ndarray]]]:
    """Queries that have an answer, with the grades of all items."""
    found = find_sources(items, QueryGenerationConfig(count=count, **config), np.random.default_rng(0))
    asked = []
    for part in found.parts:
        made: list[tuple[Asked, np.ndarray]] = []
        for _ in range(4 * part.count):
            if len(made) < part.count and (query := part.write()):
                grades = np.zeros(len(items), dtype=np.int8)
                grades[part.rows] = part.rules.grade(query)
                made += [(query, grades)] if (grades == 4).any() else []
        asked += made
    return found, asked


def own_text(items: list[dict[str, Any]]) -> str:
    """Everything that the items say, lower case."""
    said = [
        [item["title"], item["brand"] or "", item["category"] or "", *item["attributes"].values()] for item in items
    ]
    return "\n".join(part for parts in said for part in parts).lower()


def says(text: str, word: str) -> bool:
    """Whether a text holds a word as a word; where words touch, as a part."""
    if script_of(word) in ("HAN", "THAI"):
        return word in text
    beside = "A-Za-z0-9" if word.isascii() else r"\w"
    return re.search(rf"(?<![{beside}]){re.escape(word)}(?![{beside}])", text) is not None


@cache
def shop(language: str) -> tuple[list[dict[str, Any]], Sources, list[tuple[Asked, np.ndarray]]]:
    """A catalogue of 120 items, and what is asked of it."""
    items = records(language)
    return items, *ask(items, 120)


@pytest.mark.parametrize("language", FOREIGN)
def test_awkward_every_word_is_the_catalogue_s_own(language):
    items, found, asked = shop(language)
    assert found.language.code == language
    assert found.word_lists == [f"function words ({language})"]
    text = own_text(items)
    missing = {word for query, _ in asked for word in query.text.split() if not says(text, word)}
    assert not missing
    assert {query.kind for query, _ in asked} >= {
        "type",
        "brand-type",
        "attribute",
        "brand-attribute",
        "model",
        "title",
    }
    assert not languages()[language].function & {
        edge for query, _ in asked for edge in (query.text.split()[0], query.text.split()[-1])
    }


@pytest.mark.parametrize("language", ["ja", "zh", "th"])
def test_awkward_touching_words_stay_in_runs_of_the_titles(language):
    """What stands between two spaces of a query stands so in a title, a brand or an attribute."""
    items, _, asked = shop(language)
    fields = {field.lower() for item in items for field in (item["title"], item["brand"], *item["attributes"].values())}
    for query, _ in asked:
        assert all(any(part in field for field in fields) for part in query.text.split(" ")), query.text
    types = {query.text for query, _ in asked if query.kind == "type"}
    assert len(types & set(SHOPS[language]["things"])) >= 2, types


@pytest.mark.parametrize("language", FOREIGN)
def test_awkward_grades_follow_from_own_words(language):
    items, _, asked = shop(language)
    things = [next(thing for thing in SHOPS[language]["things"] if thing in item["title"]) for item in items]
    texts = [own_text([item]) for item in items]
    seen: Counter[int] = Counter()
    for query, grades in asked:
        seen.update(grades.tolist())
        for row in np.flatnonzero(grades == 4):
            assert all(says(texts[row], word) for word in query.text.split()), (query, items[row]["title"])
        if query.type and not query.hard and len(wanted := {things[row] for row in np.flatnonzero(grades >= 3)}) == 1:
            assert all(things[row] not in wanted for row in np.flatnonzero(grades == 1)), query
    assert min(seen[grade] for grade in (1, 2, 3, 4)) > 10, seen


def test_awkward_types_of_spaced_languages_are_whole_products():
    for language in ("de", "ar"):
        _, _, asked = shop(language)
        types = {query.text for query, _ in asked if query.kind == "type"}
        assert types == {thing.lower() for thing in SHOPS[language]["things"]}


MIXED = (
    ("ja", {"ソニー": "Sony", "エレコム": "Elecom"}, "sony"),  # English brands, and models in Latin letters
    ("de", {"Laufschuhe": "Running Sneaker", "Handyhülle": "Phone Case"}, "sneaker"),  # English product words
)


@pytest.mark.parametrize(("language", "english", "word"), MIXED)
def test_awkward_mixed_catalogues_follow_the_most_titles(language, english, word):
    items = records(language)
    for item in items:
        for own, other in english.items():
            item["title"], item["brand"] = item["title"].replace(own, other), item["brand"].replace(own, other)
    found, asked = ask(items, 150)
    assert found.language.code == language
    text = own_text(items)
    assert all(says(text, part) for query, _ in asked for part in query.text.split())
    assert any(word in query.text.split() for query, _ in asked)


def test_awkward_titles_in_another_script_speak_for_themselves():
    """An English shop with some Japanese titles: English words never stand beside theirs."""
    english, japanese = records("en", 160), records("ja", 60, first=160)
    found, asked = ask([*english, *japanese], 200)
    assert (found.language.code, found.other_scripts) == ("en", 60)
    assert found.word_lists == ["everyday shopping English", "function words (ja)"]
    own = own_text(japanese)
    foreign = [query for query, _ in asked if not is_latin(query.text)]
    assert 30 < len(foreign) < 80
    assert all(part in own for query in foreign for part in query.text.split())
    alone = {query.text for query, _ in ask(english, 200)[1]}
    assert any(text.split()[-1].endswith("s") for text in alone), "English has its plural"
    for query, grades in asked:
        if not is_latin(query.text):
            assert not (grades[:160]).any(), "no English title is graded for a Japanese query"


def test_awkward_a_german_shop_with_arabic_titles():
    german, arabic = records("de", 100), records("ar", 40, first=100)
    found, asked = ask([*german, *arabic], 200)
    assert (found.language.code, found.other_scripts) == ("de", 40)
    text = own_text([*german, *arabic])
    assert all(says(text, word) for query, _ in asked for word in query.text.split())
    assert {script_of(query.text) for query, _ in asked if query.kind == "type"} == {LATIN, "ARABIC"}
    for query, grades in asked:
        if query.type and script_of(query.text) == "ARABIC":
            assert not (grades[:100] == 1).any(), "a German title may name the same thing"


WORDS = st.sampled_from(
    [
        *(
            "Straße",
            "Größe",
            "naïve",
            "İstanbul",
            "ﬁx",
            "ＵＳＢ",
            "ﾍｯﾄﾞﾎﾝ",
            "ヘッドホン",
            "イヤホン",
            "耳机",
            "手机",
            "充电器",
            "สีดำ",
            "หูฟัง",
        ),
        *(
            "كتاب",
            "كُتُب",
            "किताब",
            "हिन्दी",
            "무선",
            "이어폰",
            "чехол",
            "USB-C",
            "l'eau",
            "wh-1000xm4",
            "16GB",
            "2,5",
            "m",
            "42",
            "for",
        ),
        *("with", "cable", "cables", "—", "·", "[b]", "&", "|", "'", '"', "%", "😀", "e\u0301te\u0301", "a.b"),
    ]
)
TITLES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
CODES = st.sampled_from(["auto", "de", "ja", "tr", "und", "zh-TW"])


@settings(max_examples=30, deadline=None)
@given(titles=st.lists(TITLES, min_size=1, max_size=12), brands=st.lists(WORDS, min_size=2, max_size=2), code=CODES)
def test_awkward_any_words_come_back_as_they_were(titles, brands, code):
    """Whatever titles hold, a query in no English holds words of theirs alone, and is no empty or spaced text."""
    items = [
        {"item_id": f"{row}", "title": title, "brand": brands[row % 2], "category": None, "description": None,
         "price": None, "attributes": {"k": title[:20]}}
        for row, title in enumerate([title for title in titles if title.strip()] * 3)
    ]  # fmt: skip
    if read_language(items, code).english:
        return
    text = own_text(items)
    for query, _ in ask(items, 30, language=code)[1]:
        assert query.text == " ".join(query.text.split())
        assert query.text
        assert all(part in text for part in query.text.split()), query.text


@pytest.mark.parametrize(
    ("titles", "code"),
    [
        (["Bosch Akkuschrauber mit Koffer", "Tasche für Laptop"], "de"),
        (["Logitech Gaming Maus schwarz", "Herren Schuhe"], "de"),
        (["Zapatillas de deporte para hombre"], "es"),
        (["Tênis masculino preto para corrida"], "pt"),
        (["Chaussures de course pour homme"], "fr"),
        (["Buty do biegania męskie czarne"], "pl"),
        (["Siyah koşu ayakkabısı ve çanta, kadın için"], "tr"),
        (["Кроссовки мужские черные"], "ru"),
        (["Кросівки чоловічі чорні для бігу"], "uk"),
        (["حذاء رياضي للرجال أسود"], "ar"),
        (["کفش ورزشی مردانه مشکی برای دویدن"], "fa"),
        (["ソニー ワイヤレスヘッドホン WH-1000XM4"], "ja"),
        (["索尼无线蓝牙耳机", "手机壳"], "zh"),
        (["무선 이어폰 블랙"], "ko"),
        (["หูฟังไร้สาย สีดำ"], "th"),
        (["optical mouse, black", "toner cartridge"], "en"),
        (["toner cartridge HP 122A"], "en"),
        (["Corvo.com CO211X", "AS-12 B7"], "und"),
        (["Þráðlaus heyrnartól"], "und"),
        (["12", "—"], "und"),
    ],
)
def test_awkward_reading_a_language(titles, code):
    assert read_language([{"title": title, "description": None} for title in titles]).code == code


def test_awkward_a_language_can_be_given(tmp_path):
    items = records("en", 60)
    assert read_language(items, "de-AT").code == "de"
    found, asked = ask(items, 60, language="xx")
    assert (found.language.code, found.word_lists) == ("xx", [])
    assert all(says(own_text(items), word) for query, _ in asked for word in query.text.split())
    for wrong in ("english", "", "e", "de AT", "de;drop"):
        with pytest.raises(ValueError, match="language code"):
            QueryGenerationConfig(language=wrong)
    japanese = ask(records("ja", 60), 60, language="en")[1]
    assert japanese, "their own words, though English was said"
    assert not any(word in GLUE for query, _ in japanese for word in query.text.split())


def test_awkward_nothing_to_make_queries_from(tmp_path, capsys):
    items = [{**item, "title": f"{row}", "brand": None, "attributes": {}} for row, item in enumerate(records("ja", 5))]
    with pytest.raises(InputError, match=r"no query can be made from these items.*language taken: und"):
        generate_queries(write(tmp_path / "in", items), tmp_path / "out", QueryGenerationConfig(count=5))
    assert not (tmp_path / "out").exists()
    kinds = dict.fromkeys(QueryGenerationConfig().kinds, 0.0) | {"negation": 1.0}
    with pytest.raises(InputError, match=r"queries\.kinds: titles in the language 'ja'"):
        generate_queries(
            write(tmp_path / "ja", records("ja", 30)), tmp_path / "out", QueryGenerationConfig(kinds=kinds)
        )
    with pytest.raises(SystemExit) as ended:
        main(["data", "queries", "--data", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert len(captured.err.strip().splitlines()) == 1


@pytest.mark.parametrize("language", ["de", "zh"])
def test_awkward_the_report_says_language_and_word_lists(language, tmp_path, capsys):
    data = str(write(tmp_path / "in", records(language)))
    options = ["--set", "queries.count=60"]
    for name, more in (("json", ["--json"]), ("text", [])):
        with pytest.raises(SystemExit) as ended:
            main(["data", "queries", "--data", data, "--out", str(tmp_path / name), *options, *more])
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        if name == "json":
            report = json.loads(printed)
            assert (report["language"], report["word_lists"]) == (language, [f"function words ({language})"])
        else:
            assert re.search(rf"language\W+{language}\W", printed)
            assert f"function words ({language})" in printed
    assert validate(tmp_path / "json").violations == []
    texts = open_dataset(tmp_path / "json").queries.texts
    assert len(texts) == len(set(texts)) == 60


def content(folder: Path) -> str:
    digest = hashlib.sha256()
    for table in ("queries", "pairs", "judgments"):
        digest.update(repr(pq.read_table(folder / f"{table}.parquet").to_pydict()).encode())
    return digest.hexdigest()


def test_awkward_english_queries_are_those_of_before(tmp_path):
    """The hash was taken before other languages had their own words."""
    synthesise(tmp_path / "shop", 600, 10, 3)
    report = generate_queries(tmp_path / "shop", tmp_path / "out", QueryGenerationConfig(count=150))
    assert (report["language"], report["word_lists"]) == ("en", ["everyday shopping English"])
    assert content(tmp_path / "out") == "49d3aa75ce345a2cc9ab949b4669dd1e4a1cbf7eace216b206ece64c9dc5327d"


def test_awkward_vowel_signs_belong_to_words():
    assert tokens("हिन्दी किताब หูฟัง") == ["हिन्दी", "किताब", "ห\u0e39ฟ\u0e31ง"]
    assert near_duplicate_key("किताब") != near_duplicate_key("कुतब")
