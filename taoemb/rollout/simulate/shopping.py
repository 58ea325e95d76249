"""How simulated shoppers act on a page: what they look at, click, put into the cart and buy.

Position-based model (Craswell et al. 2008, "An experimental comparison of click position-bias models"): an item is
clicked when its place is examined and the item attracts; examination depends on the place alone, attraction on the
item's true grade alone.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Habits:
    """Probabilities of the model; by grade where the item decides."""

    examine_decay: float = 0.7
    """Place k is examined with probability k ** -examine_decay."""
    click: Mapping[int, float] = field(default_factory=lambda: {4: 0.5, 3: 0.25, 2: 0.06, 1: 0.02})
    cart: Mapping[int, float] = field(default_factory=lambda: {4: 0.35, 3: 0.15, 2: 0.03, 1: 0.01})
    """Of clicked items."""
    purchase: float = 0.5
    """Of items in the cart."""
    returning: float = 0.3
    """Share of the sessions of a shopper who was there before."""
    more_pages: float = 0.3
    """Probability of another search after each page."""


def act(
    habits: Habits,
    request_id: str,
    item_ids: Sequence[str],
    prices: Sequence[float | None],
    grades: Sequence[int],
    rng: random.Random,
) -> list[dict[str, Any]]:
    """The events of one page: an impression, and clicks, carts and purchases of its items."""
    events: list[dict[str, Any]] = [{"type": "impression", "request_id": request_id}]
    for position, (item_id, price, grade) in enumerate(zip(item_ids, prices, grades, strict=True), start=1):
        looked = rng.random() < position**-habits.examine_decay
        if not looked or rng.random() >= habits.click[grade]:
            continue
        on_item = {"request_id": request_id, "item_id": item_id, "position": position}
        events.append({"type": "click", **on_item})
        if rng.random() < habits.cart[grade]:
            events.append({"type": "add_to_cart", **on_item})
            if rng.random() < habits.purchase:
                events.append({"type": "purchase", **on_item, "value": price})
    return events
