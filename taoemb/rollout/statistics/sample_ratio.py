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

_SIZES = 0.01 * 1.5 ** np.arange(15)  # shifts of the log-odds, 0.01 … 2.9
SHIFTS = np.concatenate([-_SIZES[::-1], _SIZES])
_CHUNK = 1 << 15


def sample_ratio_sequence(a: np.ndarray, p: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """p-values, never rising, after each unit (or at the looks); `a` and `p` (n,) as in `effect.effect_sequence`."""
    a, p = np.asarray(a, dtype=bool), np.asarray(p, dtype=np.float64)
    if np.any(a & (p == 0)) or np.any(~a & (p == 1)):
        raise ValueError("a unit was assigned to an arm that had no share; leave out forced units")
    evidence = np.empty(len(a))
    total = np.zeros(len(SHIFTS))
    for start in range(0, len(a), _CHUNK):
        part = slice(start, start + _CHUNK)
        sums = np.cumsum(_log_ratios(a[part], p[part]), axis=0) + total
        evidence[part] = np.logaddexp.reduce(sums, axis=1) - np.log(len(SHIFTS))
        total = sums[-1]
    most = np.maximum.accumulate(np.concatenate([[0.0], evidence]))
    return np.exp(-most)[looks_of(at, len(a))]


def _log_ratios(a: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n, shifts); 0 where nothing was left to chance. Few distinct shares occur, so each is computed once."""
    shares, which = np.unique(p, return_inverse=True)
    inner = np.where((shares > 0) & (shares < 1), shares, 0.5)
    shifted = expit(logit(inner)[:, None] + SHIFTS)
    chance = ((shares > 0) & (shares < 1))[:, None]
    candidate = np.where(chance, np.log(shifted / inner[:, None]), 0.0)
    control = np.where(chance, np.log1p(-shifted) - np.log1p(-inner)[:, None], 0.0)
    return np.where(a[:, None], candidate[which], control[which])
