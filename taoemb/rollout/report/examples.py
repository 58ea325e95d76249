"""Queries that both arms answered, side by side with their grades: numbers a reader can check with their own eyes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from taoemb.rollout.measurement.page_metrics import graded_values
from taoemb.rollout.plan import Plan
from taoemb.serving.events.rows import Grade, Page
from taoemb.serving.events.store import EventStore

_HUMAN = "human:"


@dataclass(frozen=True)
class ShownItem:
    """One place of a page."""

    title: str
    relevance: float
    """The judge's, 0 to 1."""


@dataclass(frozen=True)
class ShownPage:
    """A page of one arm as the shopper saw it, down to the plan's depth."""

    request_id: str
    items: Sequence[ShownItem]
    good: float
    """Share of its top places that are good: Item Goodrate of the page."""


@dataclass(frozen=True)
class Example:
    """One query, a page of each arm drawn by hash."""

    query: str
    control: ShownPage
    candidate: ShownPage

    @property
    def difference(self) -> float:
        """Candidate minus control, in the share of good items."""
        return self.candidate.good - self.control.good


def find_examples(store: EventStore, plan: Plan, rollout: str) -> list[Example]:
    """Every query with measured and graded pages of both arms, with one page each; in an order drawn by hash."""
    grades = _one_each(store.grades(rollout))
    drawn: dict[str, dict[str, Page]] = {}
    for page in store.unit_pages(rollout):
        if page.request_id in grades and page.assigned == page.served:
            arms = drawn.setdefault(page.query, {})
            held = arms.get(page.assigned)
            if held is None or _lot(page.request_id) < _lot(held.request_id):
                arms[page.assigned] = page
    pairs = [arms for arms in drawn.values() if len(arms) == 2]
    whole = store.pages([page.request_id for arms in pairs for page in arms.values()])
    shown = {name: _shown(page, grades[name], plan) for name, page in whole.items()}
    found = [
        Example(arms["control"].query, *(shown[arms[arm].request_id] for arm in ("control", "candidate")))
        for arms in pairs
    ]
    return sorted(found, key=lambda example: _lot(rollout + example.query))


def draw(examples: Sequence[Example], each: int) -> dict[str, list[Example]]:
    """The first `each` wins, losses and ties of the candidate, in the order given (by hash: not the best ones)."""
    kinds = {
        "wins": [one for one in examples if one.difference > 0],
        "losses": [one for one in examples if one.difference < 0],
        "ties": [one for one in examples if one.difference == 0],
    }
    return {kind: members[:each] for kind, members in kinds.items()}


def _one_each(grades: Sequence[Grade]) -> dict[str, Sequence[float]]:
    """Grades by page, of pages that are graded wholly: the judge's where there are any, else a person's."""
    found: dict[str, Sequence[float]] = {}
    for grade in sorted(grades, key=lambda one: (one.source.startswith(_HUMAN), one.source)):
        answered = [value for value in grade.relevance if value is not None]
        if len(answered) == len(grade.relevance):
            found.setdefault(grade.request_id, answered)
    return found


def _shown(page: Page, relevance: Sequence[float], plan: Plan) -> ShownPage:
    places = min(page.k, plan.depth)
    items = [
        ShownItem(str(item.get("title") or item["item_id"]), value)
        for item, value in zip((page.items or ())[:places], relevance, strict=False)
    ]
    return ShownPage(page.request_id, items, graded_values(relevance[:places], places, plan.good_relevance)[0])


def _lot(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
