"""What the cross-encoder reads of an item."""

from hypothesis import given
from hypothesis import strategies as st

from taoemb.judge.prompt import item_text
from taoemb.judge.view import focus, static

LAPTOP = item_text(
    {
        "title": "Travelbook 14",
        "brand": "Acme",
        "category": "Notebook",
        "price": 499.0,
        "attributes": {f"port_{n}": f"type {n}" for n in range(30)} | {"bluetooth": "true", "webcam": "no"},
        "description": "A light computer for the road. " + "It is well made. " * 20 + "The hinge is titanium.",
    },
    400,
)


def test_attributes_of_the_query_come_first():
    assert "bluetooth: true" in focus("laptop with bluetooth", LAPTOP, 160)
    assert "webcam: no" in focus("notebook without webcam", LAPTOP, 160)
    assert "bluetooth" not in focus("laptop", LAPTOP, 160)


def test_title_brand_category_and_price_lead():
    assert focus("laptop", LAPTOP, 120).startswith("Travelbook 14. Acme. Notebook. price 499")


def test_the_description_is_shown_where_the_query_meets_it():
    assert "titanium" in focus("titanium hinge", LAPTOP, 300)
    assert "light computer" in focus("laptop", LAPTOP, 300)


def test_brand_and_description_that_the_title_holds_are_not_repeated():
    text = item_text({"title": "Acme Travelbook", "brand": "Acme", "description": "Acme Travelbook"}, 64)
    assert focus("laptop", text, 200) == "Acme Travelbook"


def test_filler_words_pull_nothing_in():
    text = item_text({"title": "mug", "attributes": {"size": "small", "fit": "for the car"}}, 64)
    assert focus("gift for the father", text, 22) == focus("gift", text, 22) == "mug. size: small"
    assert focus("gift for the car", text, 22) == "mug. fit: for the car"


@given(st.text(max_size=60), st.text(max_size=300), st.integers(8, 200))
def test_any_text_is_cut_to_the_budget(query, text, characters):
    assert len(focus(query, text, characters)) <= characters
    framed = item_text({"title": text, "attributes": {"a": text}, "description": text, "price": 3.5}, 64)
    assert len(focus(query, framed, characters)) <= characters


def test_the_static_view_is_title_category_and_what_the_description_adds():
    assert static(LAPTOP).startswith("Travelbook 14. Notebook. A light computer")
    text = item_text({"title": "Acme Travelbook", "description": "Acme travelbook"}, 64)
    assert static(text) == "Acme Travelbook"
    assert static("no fields here") == "no fields here"
