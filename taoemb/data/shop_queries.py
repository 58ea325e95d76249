"""Asks the generated shop what shoppers ask: fills query templates from an item that answers, and keeps the spec.

A template's slots (`shop/queries.yaml`) are filled from an anchor item, so that every query has at least one Excellent
item; what each slot says becomes a constraint of the query's spec, which `oracle.py` grades by. Words differ from the
items' own on purpose: synonyms for products and values, wants and occasions instead of attributes.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from taoemb.data.oracle import ShopView, grade, number_in
from taoemb.data.taxonomy import Category, Constraint, Shop
from taoemb.errors import InputError

KIND_SHARES = {
    "plain": 0.25,
    "long-tail": 0.25,
    "negation": 0.15,
    "alternative": 0.12,
    "question": 0.13,
    "knowledge": 0.10,
}
_SLOT = re.compile(r"\{(\w+)\}")
_TRIES = 60  # draws for one query before the shop counts as exhausted
_CHEAPER = 0.8  # an alternative costs at most this share of the reference's price


@dataclass(frozen=True)
class ShopQuery:
    """One query of the shop and what it asks for."""

    text: str
    slices: tuple[str, ...]
    spec: dict[str, Any]
    grades: np.ndarray  # int8, one an item

    @property
    def spec_json(self) -> str:
        return json.dumps(self.spec, ensure_ascii=False, separators=(",", ":"))


@dataclass
class _Draft:
    """A query that is being filled in from one anchor item."""

    row: int
    category: Category
    item: dict[str, Any]
    must: list[Constraint] = field(default_factory=list)
    should: list[Constraint] = field(default_factory=list)

    def free(self, names: Any) -> list[str]:
        """Those of the attribute names that no constraint uses yet."""
        used = {constraint[0] for constraint in (*self.must, *self.should)}
        return [name for name in names if name not in used]


class _NoFit(Exception):
    """The anchor cannot fill the template's slots."""


def make_queries(shop: Shop, view: ShopView, count: int, rng: np.random.Generator) -> list[ShopQuery]:
    """`count` distinct queries, kinds mixed by KIND_SHARES. Raises InputError when the shop is too small for them."""
    made: list[ShopQuery] = []
    seen: set[str] = set()
    asker = _Asker(shop, view, rng)
    for kind in rng.permutation(list(_kinds(count))).tolist():
        query = asker.ask(kind, seen)
        seen.add(query.text)
        made.append(query)
    return made


def _kinds(count: int) -> Iterator[str]:
    """Each kind as often as its share says (largest remainders)."""
    exact = {kind: share * count for kind, share in KIND_SHARES.items()}
    whole = {kind: int(n) for kind, n in exact.items()}
    by_remainder = sorted(exact, key=lambda kind: whole[kind] - exact[kind])
    for kind in by_remainder[: count - sum(whole.values())]:
        whole[kind] += 1
    for kind, n in whole.items():
        yield from [kind] * n


class _Asker:
    def __init__(self, shop: Shop, view: ShopView, rng: np.random.Generator) -> None:
        self.shop, self.view, self.rng = shop, view, rng
        self.categories = shop.categories
        self.occasions = [occasion for department in shop.departments for occasion in department.occasions]
        self.slots: dict[str, Callable[[_Draft], str]] = {
            "noun": self._noun,
            "v": self._value,
            "n": self._number,
            "least": lambda draft: self._bound(draft, ">="),
            "most": lambda draft: self._bound(draft, "<="),
            "f": self._feature,
            "brand": self._brand,
            "price": self._price,
            "lacks": self._lacks,
            "notadj": self._not_adjective,
            "notv": self._not_value,
            "notbrand": self._not_brand,
            "need": self._need,
            "ref": self._reference,
        }

    def ask(self, kind: str, seen: set[str]) -> ShopQuery:
        """One new query of a kind."""
        for _ in range(_TRIES):
            number = int(self.rng.integers(len(self.shop.templates[kind])))
            template = self.shop.templates[kind][number]
            try:
                text, targets = self._know(template) if kind == "knowledge" else self._fill(template)
            except _NoFit:
                continue
            if text in seen:
                continue
            spec = {"by": "shop", "kind": kind, "targets": targets}
            grades = grade(self.view, spec)
            if (grades == 4).any():
                about = [f"category:{self.categories[target['category']].slug}" for target in targets]
                return ShopQuery(text, (kind, *about, f"template:{kind}/{number}"), spec, grades)
        items = len(self.view.items)
        raise InputError(f"no further {kind} query can be made from {items} items; ask for fewer queries or more items")

    def _fill(self, template: str) -> tuple[str, list[dict[str, Any]]]:
        draft = self._draft(int(self.rng.integers(len(self.view.items))))
        text = _SLOT.sub(lambda slot: self.slots[slot.group(1)](draft), template)
        return text.lower(), [_target(draft)]

    def _know(self, template: str) -> tuple[str, list[dict[str, Any]]]:
        occasion = self.occasions[int(self.rng.integers(len(self.occasions)))]
        should: list[Constraint] = []
        price = self._pick((20, 30, 50, 80, 100, 150, 250, 400))
        if "{price}" in template:
            should.append(("price", "<=", price))
        text = template.format(say=self._pick(occasion.say), price=price)
        targets = [{"category": name, "must": list(must), "should": should} for name, must in occasion.take]
        return text.lower(), targets

    def _draft(self, row: int) -> _Draft:
        item = self.view.items.records(np.array([row]))[0]
        return _Draft(row, self.categories[item["category"]], item)

    def _pick(self, options: Any) -> Any:
        options = list(options)
        if not options:
            raise _NoFit
        return options[int(self.rng.integers(len(options)))]

    def _noun(self, draft: _Draft) -> str:
        return draft.category.nouns[0] if self.rng.random() < 0.6 else self._pick(draft.category.nouns)

    def _value(self, draft: _Draft) -> str:
        name = self._pick(draft.free(draft.category.values))
        value = draft.item["attributes"][name]
        draft.should.append((name, "=", value))
        return self._said(value)

    def _said(self, value: str) -> str:
        others = self.shop.synonyms.get(value, ())
        return self._pick(others) if others and self.rng.random() < 0.5 else value

    def _number(self, draft: _Draft) -> str:
        name = self._pick(draft.free(draft.category.numbers))
        value = number_in(draft.item["attributes"][name])
        draft.should.append((name, "=", value))
        return draft.category.numbers[name].text(value)

    def _bound(self, draft: _Draft, operator: str) -> str:
        name = self._pick(draft.free(draft.category.numbers))
        own = number_in(draft.item["attributes"][name])
        number = draft.category.numbers[name]
        value = self._pick(step for step in number.steps if (step <= own if operator == ">=" else step >= own))
        draft.should.append((name, operator, value))
        return number.text(value)

    def _feature(self, draft: _Draft) -> str:
        name = self._pick(self._features(draft, "yes"))
        draft.should.append((name, "=", "yes"))
        return self._pick(draft.category.features[name].ask)

    def _features(self, draft: _Draft, answer: str) -> list[str]:
        return [name for name in draft.free(draft.category.features) if draft.item["attributes"][name] == answer]

    def _brand(self, draft: _Draft) -> str:
        draft.should.append(("brand", "=", draft.item["brand"]))
        return draft.item["brand"]

    def _price(self, draft: _Draft) -> str:
        above = draft.item["price"] * self.rng.uniform(1.0, 1.4)
        step = 5 if above < 50 else 10 if above < 200 else 50
        bound = int(np.ceil(above / step) * step)
        draft.should.append(("price", "<=", bound))
        return str(bound)

    def _lacks(self, draft: _Draft) -> str:
        name = self._pick(self._features(draft, "no"))
        draft.must.append((name, "=", "no"))
        return self._pick(draft.category.features[name].ask)

    def _not_adjective(self, draft: _Draft) -> str:
        features = draft.category.features
        name = self._pick(name for name in self._features(draft, "no") if features[name].adjective)
        draft.must.append((name, "=", "no"))
        return str(features[name].adjective)

    def _not_value(self, draft: _Draft) -> str:
        name = self._pick(draft.free(draft.category.values))
        value = self._pick(other for other in draft.category.values[name] if other != draft.item["attributes"][name])
        draft.must.append((name, "!=", value))
        return self._said(value)

    def _not_brand(self, draft: _Draft) -> str:
        department = next(d for d in self.shop.departments if d.name == draft.category.department)
        brand = self._pick(name for name, _ in department.brands if name != draft.item["brand"])
        draft.must.append(("brand", "!=", brand))
        return brand

    def _need(self, draft: _Draft) -> str:
        here = np.array([draft.row])
        phrasings, means = self._pick(
            need for need in draft.category.needs if all(self.view.holds(here, *one)[0] for one in need[1])
        )
        draft.must.extend(means)
        return self._pick(phrasings)

    def _reference(self, draft: _Draft) -> str:
        """A dearer item of the category; the anchor costs at most 80 % of it."""
        rows = self.view.rows("category", draft.category.name)
        dearer = rows[self.view.prices[rows] * _CHEAPER >= draft.item["price"]]
        item = self.view.items.records(np.array([self._pick(dearer.tolist())]))[0]
        draft.must.append(("price", "<=", round(item["price"] * _CHEAPER, 2)))
        draft.must.append(("item_id", "!=", item["item_id"]))
        return f"{item['brand']} {item['attributes']['model']}"


def _target(draft: _Draft) -> dict[str, Any]:
    return {"category": draft.category.name, "must": draft.must, "should": draft.should}
