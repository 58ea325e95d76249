"""One grade for each (query, item) pair that was judged several times: the one rule, for everyone who reads judgments.

The rule is the low median: of an odd number of grades the middle one, of an even number the lower of the two middle
ones. Grades are ranks, not amounts, so they are not averaged; the result is a grade that somebody gave; one stray grade
among three does not count; and of two that disagree the careful one counts, since a wrong item called right hurts a
shopper more than a right one called wrong. The order of the rows plays no part.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Settled:
    """P pairs out of J judgments, in the order in which the pairs first stand.

    `first`: row of each pair's first judgment, (P,) int64. `grades`: (P,) int8. `pair_of`: pair of each judgment, (J,)
    int64. `conflicting`: whether a pair had several different grades, (P,) bool.
    """

    first: np.ndarray
    grades: np.ndarray
    pair_of: np.ndarray
    conflicting: np.ndarray


def settle(query_rows: np.ndarray, item_rows: np.ndarray, grades: np.ndarray) -> Settled:
    """The low median of each pair's grades; the three arrays are (J,)."""
    span = int(item_rows.max(initial=0)) + 1
    keys = query_rows.astype(np.int64) * span + item_rows.astype(np.int64)
    _, first, pair_of = np.unique(keys, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    first, pair_of = np.sort(first), place[pair_of.reshape(-1)]
    order = np.lexsort((grades, pair_of))
    counts = np.bincount(pair_of, minlength=len(first))
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)
    ranked = grades[order]
    lowest, highest = ranked[starts], ranked[starts + counts - 1]
    return Settled(first, ranked[starts + (counts - 1) // 2].astype(np.int8), pair_of, lowest != highest)
