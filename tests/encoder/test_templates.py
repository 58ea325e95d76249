"""Templates: what a text looks like, and what is refused."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taoemb.encoder.text import ITEM_TEMPLATE, ItemTemplate, QueryTemplate, escape_item_literal
from taoemb.errors import InputError

ITEM = {
    "title": "Oak table",
    "brand": "Nordli",
    "category": "Tables",
    "description": None,
    "price": 199.0,
    "attributes": {"seat_count": "6", "colour": "", "material": "oak"},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{title}", "Oak table"),
        ("{title}[, {brand}]", "Oak table, Nordli"),
        ("{title}[, about: {description}]", "Oak table"),
        ("[{description} by {brand}]{title}", "Oak table"),
        ("{description} {title}", "Oak table"),
        ("passage: {title}", "passage: Oak table"),
        ("{title} ({attributes})", "Oak table (seat count: 6, material: oak)"),
        ("{title}[ in {attributes.colour}][ of {attributes.material}]", "Oak table of oak"),
        ("{title} [[{price}]] {{x}}", "Oak table [199] {x}"),
        ("{title:8}", "Oak"),
        ("{title:3}", "Oak"),
        ("{title:2}", "Oa"),
        ("{title:9}", "Oak table"),
        ("{title}[ ({attributes:15})]", "Oak table (seat count: 6,)"),
        ("{title}[ of {attributes.material:2}]", "Oak table of oa"),
        ("{title}[. {description:160}]", "Oak table"),
        (ITEM_TEMPLATE, "Oak table, Nordli, Tables"),
    ],
)
def test_item_text(template: str, text: str) -> None:
    assert ItemTemplate(template).render(ITEM) == text


def test_a_field_is_missing_when_absent_none_blank_nan_or_empty() -> None:
    template = ItemTemplate("{title}[ b:{brand}][ p:{price}][ a:{attributes}][ c:{category}]")
    record = {"title": "x", "brand": "  ", "price": float("nan"), "attributes": {}}
    assert template.render(record) == "x"
    assert template.render(record | {"attributes": None, "category": None}) == "x"


def test_price_is_written_for_people() -> None:
    template = ItemTemplate("{price}")
    assert template.render({"price": 1234567.5}) == "1234567.50"
    assert template.render({"price": 20.0}) == "20"


def test_attributes_may_come_as_pairs() -> None:
    record = {"attributes": [("size", "42"), ("colour", "red")]}
    assert ItemTemplate("{attributes}").render(record) == "size: 42, colour: red"


def test_fields_are_the_columns_in_order_of_first_use() -> None:
    assert ItemTemplate("{brand}{title}[{attributes.a}{attributes}{brand}]").fields == ("brand", "title", "attributes")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{titel}", "unknown field {titel}"),
        ("{}", "unknown field {}"),
        ("{title.x}", "unknown field {title.x}"),
        ("{attributes.}", "unknown field {attributes.}"),
        ("plain", "names no field"),
        ("", "names no field"),
        ("{title", "stray '{'"),
        ("title}", "stray '}'"),
        ("{title}[{brand}", "never closed"),
        ("{title}]", "']' without '['"),
        ("[{title}[{brand}]]", "do not nest"),
        ("{title}[, new]", "must name a field"),
        ("{title}[]", "must name a field"),
        ("{title:}", "how many characters"),
        ("{title:0}", "how many characters"),
        ("{title:x}", "how many characters"),
    ],
)
def test_bad_item_templates(template: str, problem: str) -> None:
    with pytest.raises(InputError, match=r"^item template ") as caught:
        ItemTemplate(template)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(), st.text())
def test_any_text_can_stand_literally_in_an_item_template(before: str, after: str) -> None:
    template = ItemTemplate(f"{escape_item_literal(before)}{{title}}{escape_item_literal(after)}")
    assert template.render({"title": "T"}) == f"{before}T{after}".strip()
    assert template.prefix == before


@given(st.dictionaries(st.sampled_from(["title", "brand", "category", "description"]), st.text() | st.none()))
def test_a_bracketed_part_stands_exactly_when_its_fields_do(record: dict) -> None:
    rendered = ItemTemplate("<{title}>[<{brand}|{category}>]").render(record)
    values = {key: (value or "").strip() for key, value in record.items()}
    whole = values.get("brand") and values.get("category")
    tail = f"<{values['brand']}|{values['category']}>" if whole else ""
    assert rendered == f"<{values.get('title', '')}>{tail}"


@given(st.text(), st.text(), st.text())
def test_query_template_keeps_everything_literal(before: str, query: str, after: str) -> None:
    source = f"{before}{{text}}{after}"
    if source.count("{text}") != 1:
        return
    template = QueryTemplate(source)
    assert template.render(query) == before + query + after
    assert (template.prefix, template.suffix) == (before, after)


def test_a_query_that_looks_like_a_template_is_data() -> None:
    assert QueryTemplate("Query:{text}").render("{text} {title}") == "Query:{text} {title}"


@pytest.mark.parametrize("template", ["", "query: ", "{query}", "{text}{text}"])
def test_bad_query_templates(template: str) -> None:
    with pytest.raises(InputError, match="exactly once"):
        QueryTemplate(template)


def test_templates_and_manifests_do_without_torch() -> None:
    for module in ("text", "manifest", "sources"):
        code = f"import sys, taoemb.encoder.{module}; sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)
