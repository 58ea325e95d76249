"""The effect when some values are missing: an interval that holds whatever they are, and whyever they are missing.

A judge that leaves pages unanswered leaves them for a reason, and the reason may lie in what one arm finds. Dropping
them makes an arm better by what it hides, and no number of pages shows that. So each unit has a smallest and a largest
value that it may have; where it is known both are one. The low end of the effect is the low end of a sequence in
which the candidate has its smallest values and the control its largest, the high end the other way round. By
construction y of the first lies under the truth in the candidate's arm and over it in the control's, so its effect
is at most the true one, and its sequence keeps its level: nothing is assumed about what is missing (Manski 1990,
"Nonparametric bounds on treatment effects"; Horowitz and Manski 2000, for experiments with missing outcomes).

The price is plain: each end moves outwards by what its missing values may be worth, by one point for each per cent
of units without a value when both arms lack as many, and by two at most.
`effect.effect_sequence` does this for its `most`.
"""

import numpy as np


def worst_and_best(least: np.ndarray, most: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) values that make the candidate (where true) as bad, and as good, as what is known allows."""
    return np.where(candidate, least, most), np.where(candidate, most, least)
