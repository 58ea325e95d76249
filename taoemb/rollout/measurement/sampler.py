"""Which units are graded: drawn by a hash, so that no outcome decides, as many of the candidate as of the control.

While the candidate answers a small share, most pages are the control's, and grading them all would spend the judge on
one side of a difference. So each arm is thinned to what the smaller one has. The thinning is known, and hence so is
the share of the candidate among the graded units: one half, whatever the split is. That is the `p` of the graded
metrics' statistics.
"""

from taoemb.serving.assignment import place

GRADED_SHARE = 0.5
"""Probability that a graded unit is the candidate's, given that it is graded."""


def is_sampled(salt: str, unit: str, candidate: bool, p: float, sample: float) -> bool:
    """Whether a unit is graded. `p` is the candidate's share, 0 to 1, when the unit's page was assigned.

    A unit whose arm was no matter of chance (p of 0 or 1) compares nothing and is not graded.
    """
    if not 0 < p < 1:
        return False
    smaller = min(p, 1 - p)
    keep = sample * smaller / (p if candidate else 1 - p)
    return place(f"{salt}:sample", unit) < 100 * keep
