"""Did the split work? A test of the assignment that may be looked at after every unit.

Counts that do not fit the shares mean that units are lost or moved (a crashing arm, a broken hash, a filter that
hits one arm), and then no effect can be trusted. For any shift d of the log-odds, the likelihood ratio of the
assignments under the shifted shares against the planned ones is a martingale while the split works; so is its
mixture over d, which ever passes 1/alpha with probability alpha at most. After Lindon and Malek (2022),
"Anytime-valid inference for multinomial count data" (NeurIPS); the mixture over odds instead of a Dirichlet lets
the shares change as a rollout steps.
"""

import numpy as np
from scipy.special import expit, logit

from taoemb.rollout.statistics.sequence import looks_of

_SIZES = 0.02 * 2.0 ** np.arange(7)  # shifts of the log-odds, 0.02 … 1.28
SHIFTS = np.concatenate([-_SIZES[::-1], _SIZES])
_CHUNK = 1 << 15


def sample_ratio_sequence(a: np.ndarray, p: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """p-values, never rising, after each unit (or at the looks); `a` and `p` (n,) as in `effect.effect_sequence`."""
    a, p = np.asarray(a, dtype=bool), np.asarray(p, dtype=np.float64)
    if np.any(a & (p == 0)) or np.any(~a & (p == 1)):
        raise ValueError("a unit was assigned to an arm that had no share; leave out forced units")
    shares, which = np.unique(p, return_inverse=True)
    table, cells = log_ratios(shares), 2 * which + a
    evidence = np.empty(len(a))
    total = np.zeros(len(SHIFTS))
    for start in range(0, len(a), _CHUNK):
        part = slice(start, start + _CHUNK)
        sums = np.cumsum(table[cells[part]], axis=0) + total
        top = sums.max(axis=1)
        evidence[part] = top + np.log(np.exp(sums - top[:, None]).mean(axis=1))
        total = sums[-1]
    most = np.maximum.accumulate(np.concatenate([[0.0], evidence]))
    return np.exp(-most)[looks_of(at, len(a))]


def log_ratios(shares: np.ndarray) -> np.ndarray:
    """(2 * shares, shifts): what a unit of the control, then one of the candidate adds; 0 where there was no chance."""
    chance = (shares > 0) & (shares < 1)
    inner = np.where(chance, shares, 0.5)[:, None]
    shifted = expit(logit(inner) + SHIFTS)
    ratios = np.stack([np.log1p(-shifted) - np.log1p(-inner), np.log(shifted / inner)], axis=1)
    return np.where(chance[:, None, None], ratios, 0.0).reshape(2 * len(shares), len(SHIFTS))
