import os
from html.parser import HTMLParser
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.evaluation import plots
from taoemb.evaluation.run import compare_systems

HOSTILE = '</details><script>alert("x")</script><img src=x onerror=alert(1)> & $\\frac{ {{ 7*7 }}'


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)


def read(path) -> tuple[Page, str]:
    page = Page((path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page, " ".join(" ".join(page.text).split())


@pytest.fixture(scope="module")
def hostile_page(shop, parent, child, settings, tmp_path_factory):
    """A report in which every text that comes from outside tries to break out."""
    data = tmp_path_factory.mktemp("hostile")
    items = pq.read_table(shop / "items.parquet")
    titles = pa.array([f"{title} {HOSTILE}" for title in items.column("title").to_pylist()])
    pq.write_table(items.set_column(1, "title", titles), data / "items.parquet")
    queries = pq.read_table(shop / "queries.parquet")
    texts = pa.array([f"{text} {HOSTILE}" for text in queries.column("text").to_pylist()])
    slices = pa.array([[HOSTILE, f"category:{HOSTILE}"]] * len(queries), pa.list_(pa.string()))
    queries = queries.set_column(1, "text", texts).set_column(2, "slices", slices)
    pq.write_table(queries, data / "queries.parquet")
    judgments = pq.read_table(shop / "judgments.parquet")
    sources = pa.array([HOSTILE] * len(judgments))
    pq.write_table(judgments.set_column(3, "source", sources), data / "judgments.parquet")
    out = tmp_path_factory.mktemp("report")
    systems = {"BM25": "bm25", "old": parent.path, f"new {HOSTILE}": child.path}
    compare_systems(systems, data, out, settings, baseline="BM25")
    return read(out)


def test_text_from_outside_stays_text(hostile_page):
    page, text = hostile_page
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert text.count("{{ 7*7 }}") > 20
    assert '<script>alert("x")</script>' in text


def test_the_page_needs_nothing_else(hostile_page):
    page, text = hostile_page  # the text holds the style sheet too
    assert "font-variant-numeric" in text
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not {"src", "href", "srcset", "xlink:href", "action"} & set(attributes)
    assert "@import" not in text
    assert "url(" not in text


def test_shows_the_verdict_every_system_and_the_examples(shop, parent, child, settings, tmp_path):
    evaluation = compare_systems(
        {"parent": parent.path, "child": child.path, "BM25": "bm25"}, shop, tmp_path, settings, baseline="parent"
    )
    page, text = read(tmp_path)
    assert "Evaluation of BM25 against parent" in text
    assert ("The gate passes" if evaluation["gate"]["passed"] else "The gate fails") in text
    for reason in evaluation["gate"]["reasons"]:
        assert reason in text
    cell = evaluation["differences"]["goodrate@5"]["all"]
    assert plots.number(cell["value"], signed=True) in text
    assert child.manifest.digest[:16] in text
    assert "acme red sofa" in text
    assert sum(tag == "svg" for tag, _ in page.elements) == 4
    circles = [attributes for tag, attributes in page.elements if tag == "circle"]
    compared = [system for name, system in evaluation["systems"].items() if name != "parent"]
    plotted = ("goodrate@5", "hitrate@5", "ndcg_condensed@5", "pair_accuracy")
    assert len(circles) == sum(len(system["differences"][metric]) for system in compared for metric in plotted)


def test_without_a_baseline_there_is_no_verdict_and_means_are_drawn(shop, settings, tmp_path):
    compare_systems({"BM25": "bm25"}, shop, tmp_path, settings)
    page, text = read(tmp_path)
    assert "No verdict" in text
    assert "Highest and lowest by goodrate@5" in text
    assert any(tag == "circle" for tag, _ in page.elements)


def test_warns_when_one_system_is_better_judged(shop, child, settings, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("items", "queries"):
        os.link(shop / f"{name}.parquet", data / f"{name}.parquet")
    compare_systems({"BM25": "bm25"}, shop, tmp_path / "first", settings)
    run = pq.read_table(tmp_path / "first" / "run.parquet").to_pandas()
    top = run[run["rank"] <= 10]
    judgments = {"query_id": top.query_id, "item_id": top.item_id, "grade": pa.array([3] * len(top), pa.int8())}
    pq.write_table(pa.table(judgments), data / "judgments.parquet")
    compare_systems({"BM25": "bm25", "child": child.path}, data, tmp_path / "out", settings, baseline="BM25")
    _, text = read(tmp_path / "out")
    assert "Read with care" in text
    assert "100% of BM25's. Metrics that count unjudged items as not good favour the better judged system" in text


@given(st.floats(-1, 1), st.floats(0, 2))
def test_ticks_are_few_and_cover_the_range(low, span):
    ticks = plots.nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= low + span - max(span, 1e-6) * 1e-5
    steps = {round(b - a, 9) for a, b in pairwise(ticks)}
    assert len(steps) == 1 or max(steps) - min(steps) < 1e-8


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5), st.booleans())
def test_marks_lie_inside_the_plot_in_the_order_of_their_values(cells, signed):
    table = {
        f"s{at}": {"value": value, "low": value - below, "high": value + above, "queries": 9}
        for at, (value, below, above) in enumerate(cells)
    }
    plot = plots.forest({"one": table, "two": table}, list(table), {"one": "#000", "two": "#111"}, signed=signed)
    assert len(plot.marks) == 2 * len(table)
    for mark in plot.marks:
        assert plot.plot_left <= mark.x_low <= mark.x <= mark.x_high <= plot.plot_right
        assert 0 < mark.y < plot.height
    values = [cell["value"] for cell in table.values() for _ in range(2)]
    xs = [plot.marks[at].x for at in sorted(range(len(values)), key=values.__getitem__)]
    assert xs == sorted(xs)
    assert (plot.zero is not None) == signed


def test_numbers_have_a_minus_sign_and_no_negative_zero():
    assert plots.number(-0.1234) == "−0.123"
    assert plots.number(-0.0001, signed=True) == "0.000"
    assert plots.number(0.5, signed=True, digits=1) == "+0.5"
