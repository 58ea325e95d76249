"""Team-draft interleaving: one page from both arms, so that each shopper compares them and few shoppers suffice.

Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008, algorithm 2.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from taoemb.serving.traffic import ArmName

Item = TypeVar("Item")


def team_draft(
    control: Sequence[Item], candidate: Sequence[Item], k: int, seed: str, key: Callable[[Item], Hashable]
) -> list[tuple[Item, ArmName | None]]:
    """At most `k` items, best first, each with the team that picked it.

    `control` and `candidate` are the arms' rankings; `key` names an item, equal in both. The teams pick in turns, a
    coin (from `seed`) decides who begins each turn, and a team picks its best item that is not on the page yet. When
    one ranking is used up the draft is over: what the other still has fills the page, credited to nobody (None).
    """
    coin = random.Random(seed)
    rankings: dict[ArmName, Sequence[Item]] = {"control": control, "candidate": candidate}
    picked: dict[ArmName, int] = {"control": 0, "candidate": 0}
    page: list[tuple[Item, ArmName | None]] = []
    taken: set[Hashable] = set()

    def best(team: ArmName) -> Item | None:
        return next((item for item in rankings[team] if key(item) not in taken), None)

    while len(page) < k:
        ahead = picked["control"] - picked["candidate"]
        team: ArmName = "candidate" if ahead > 0 or (ahead == 0 and coin.random() < 0.5) else "control"
        item = best(team)
        if item is None or best("control") is None or best("candidate") is None:
            break
        page.append((item, team))
        taken.add(key(item))
        picked[team] += 1
    rest = (item for ranking in rankings.values() for item in ranking if key(item) not in taken)
    return [*page, *((item, None) for item in rest)][:k]
