"""The generated shop's world: departments, categories, typed attributes, brands and what shoppers know and ask.

It stands in the packaged YAML files of `shop/`, one a department, beside the shared words and the query templates.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

TIERS = ("budget", "mid", "premium")
Constraint = tuple[str, str, Any]  # field, operator, value: ("price", "<=", 300)


@dataclass(frozen=True)
class Number:
    """A numeric attribute: its unit and the values that items have."""

    unit: str
    steps: tuple[float, ...]

    def text(self, value: float) -> str:
        """The value with its unit, e.g. "1.4 kg"."""
        return f"{value:g} {self.unit}"


@dataclass(frozen=True)
class Feature:
    """A yes/no attribute: how items say yes and no, and the words that shoppers use for it."""

    has: str
    lacks: str
    ask: tuple[str, ...]
    adjective: str | None


@dataclass(frozen=True)
class Category:
    """A category of the shop and everything that its items can be."""

    name: str
    department: str
    nouns: tuple[str, ...]  # the first is the usual word, the others are synonyms
    price: tuple[float, float]
    values: dict[str, tuple[str, ...]]
    numbers: dict[str, Number]
    features: dict[str, Feature]
    needs: tuple[tuple[tuple[str, ...], tuple[Constraint, ...]], ...]  # phrasings of a want, what it means

    @property
    def slug(self) -> str:
        """The name as it stands in slices, e.g. "coffee-machines"."""
        return self.name.lower().replace(" ", "-")


@dataclass(frozen=True)
class Occasion:
    """Something to know: phrasings of an occasion and, for each category that helps, which of its items do."""

    say: tuple[str, ...]
    take: tuple[tuple[str, tuple[Constraint, ...]], ...]


@dataclass(frozen=True)
class Department:
    """A department: its brands with their price tier (0 budget … 2 premium), categories and occasions."""

    name: str
    brands: tuple[tuple[str, int], ...]
    categories: tuple[Category, ...]
    occasions: tuple[Occasion, ...]


@dataclass(frozen=True)
class Shop:
    """The whole world."""

    departments: tuple[Department, ...]
    synonyms: dict[str, tuple[str, ...]]
    series: tuple[str, ...]
    templates: dict[str, tuple[str, ...]]  # kind of query → templates

    @property
    def categories(self) -> dict[str, Category]:
        """Categories by name."""
        return {category.name: category for department in self.departments for category in department.categories}


@cache
def load_shop() -> Shop:
    """The packaged shop."""
    files = sorted((f for f in resources.files("taoemb.data").joinpath("shop").iterdir()), key=lambda f: f.name)
    trees = {f.name: yaml.safe_load(f.read_text("utf-8")) for f in files if f.name.endswith(".yaml")}
    words, templates = trees.pop("words.yaml"), trees.pop("queries.yaml")
    return Shop(
        departments=tuple(_department(tree, words["lists"]) for tree in trees.values()),
        synonyms={value: tuple(others) for value, others in words["synonyms"].items()},
        series=tuple(words["series"]),
        templates={kind: tuple(lines) for kind, lines in templates.items()},
    )


def _department(tree: dict[str, Any], lists: dict[str, list[str]]) -> Department:
    name = tree["department"]
    categories = {key: _category(key, name, body, lists) for key, body in tree["categories"].items()}
    return Department(
        name=name,
        brands=tuple((brand, TIERS.index(tier)) for tier, brands in tree["brands"].items() for brand in brands),
        categories=tuple(categories.values()),
        occasions=tuple(
            Occasion(
                say=tuple(entry["say"]),
                take=tuple((key, _where(categories[key], where)) for key, where in entry["take"].items()),
            )
            for entry in tree["occasions"]
        ),
    )


def _category(name: str, department: str, body: dict[str, Any], lists: dict[str, list[str]]) -> Category:
    values = {key: tuple(lists[of] if isinstance(of, str) else of) for key, of in body["values"].items()}
    numbers = {key: Number(of["unit"], tuple(of["of"])) for key, of in body.get("numbers", {}).items()}
    features = {
        key: Feature(of["has"], of["lacks"], tuple(of["ask"]), of.get("adjective"))
        for key, of in body["features"].items()
    }
    bare = Category(name, department, tuple(body["nouns"]), tuple(body["price"]), values, numbers, features, ())
    needs = tuple((tuple(said.split(" | ")), _where(bare, where)) for said, where in body["needs"].items())
    return Category(**{**vars(bare), "needs": needs})


def _where(category: Category, where: dict[str, Any]) -> tuple[Constraint, ...]:
    """Constraints of a `{attribute: value}` line: has/lacks for features, a bound like ">= 3" or a value otherwise."""
    made: list[Constraint] = []
    for field, value in where.items():
        if field in category.features:
            made.append((field, "=", {"has": "yes", "lacks": "no"}[value]))
        elif field in category.numbers and isinstance(value, str):
            operator, number = value.split()
            made.append((field, operator, float(number)))
        elif field in category.numbers:
            made.append((field, "=", float(value)))
        elif value in category.values[field]:
            made.append((field, "=", value))
        else:
            raise ValueError(f"{category.name}: {field} is never {value!r}")
    return tuple(made)
