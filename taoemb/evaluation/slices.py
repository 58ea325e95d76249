"""Named subsets of queries, so that a gain on the average can't hide a loss on the hard ones."""

from collections.abc import Sequence

import numpy as np

ALL = "all"
CATEGORY, TEMPLATE = "category:", "template:"


def slice_masks(slices: Sequence[Sequence[str]], templates: bool = False) -> dict[str, np.ndarray]:
    """Mask (Q,) of each slice that occurs, "all" first, plain names next, categories last.

    `slices[i]` names the slices of query i. Slices named "template:…" (what a generated query was made from) are left
    out unless `templates`; a dataset's own slice "all" means every query like ours.
    """
    names = {name for of_query in slices for name in of_query if name and name != ALL}
    kept = sorted((name for name in names if templates or not name.startswith(TEMPLATE)), key=_place)
    masks = {ALL: np.ones(len(slices), dtype=bool)}
    for name in kept:
        masks[name] = np.array([name in of_query for of_query in slices], dtype=bool)
    return masks


def _place(name: str) -> tuple[int, str]:
    return (2 if name.startswith(TEMPLATE) else 1 if name.startswith(CATEGORY) else 0), name
