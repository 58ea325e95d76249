"""g_quality: where an item stands among its own category by the shop's quality signals.

The paper scores quality from historical transactions and user satisfaction (section 4). Signals of different
categories are not comparable (a kettle sells more often than a sofa), so each is turned into its quantile within
the item's category before they are averaged.
"""

import numpy as np
import pyarrow.compute as pc

from taoemb.data.dataset import Catalogue

NEUTRAL = 0.5


def within_group_quantile(values_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """Mid-rank quantile in [0, 1] of each value among the values of its group.

    Ties share their mean rank; a missing value (nan) and a group of one are NEUTRAL (0.5). Shapes: (N,) → (N,) float32.
    """
    result_N = np.full(len(values_N), NEUTRAL, dtype=np.float32)
    known = np.flatnonzero(~np.isnan(values_N))
    if known.size == 0:
        return result_N
    by_group_then_value = known[np.lexsort((values_N[known], groups_N[known]))]
    groups, values = groups_N[by_group_then_value], values_N[by_group_then_value]
    group_starts, group_of = _runs(groups[:, None])
    tie_starts, tie_of = _runs(np.stack([groups.astype(np.float64), values], axis=1))
    tie_ends = np.append(tie_starts[1:], len(groups))
    mid_rank = (tie_starts + tie_ends - 1)[tie_of] / 2 - group_starts[group_of]
    sizes = np.diff(np.append(group_starts, len(groups)))[group_of]
    result_N[by_group_then_value] = np.where(sizes > 1, mid_rank / np.maximum(sizes - 1, 1), NEUTRAL)
    return result_N


def _runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts of the runs of equal consecutive rows, and the run number of each row."""
    new = np.append(True, (keys[1:] != keys[:-1]).any(axis=1))
    return np.flatnonzero(new), np.cumsum(new) - 1


def quality_scores(catalogue: Catalogue) -> np.ndarray:
    """Quality of every item in [0, 1]: the mean of its signals' within-category quantiles. Shape (N,) float32.

    A catalogue without `signal_*` columns gives NEUTRAL for all, which no advantage can see.
    """
    n = len(catalogue)
    if not catalogue.signals:
        return np.full(n, NEUTRAL, dtype=np.float32)
    groups_N = _category_codes(catalogue)
    quantiles = [
        within_group_quantile(catalogue.column(name).to_numpy().astype(np.float64), groups_N)
        for name in catalogue.signals
    ]
    return np.stack(quantiles).mean(axis=0).astype(np.float32)


def _category_codes(catalogue: Catalogue) -> np.ndarray:
    column = catalogue.column("category")
    codes = pc.dictionary_encode(pc.fill_null(column, "").combine_chunks())
    return codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
