"""How much a word says about the words beside it: high for a kind of product, low for a colour or "new"."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

_SMOOTHING = 200.0  # words of the whole catalogue that each word's own are mixed with: a rare word proves little
_MOST = 2_000  # items of a word that are looked at


def clarities(
    texts: Sequence[Iterable[str]], rows: Mapping[str, Sequence[int]], words: Iterable[str]
) -> dict[str, float]:
    """Word → divergence (nats) between the words of its items and those of all items, itself aside.

    `texts`: each item's distinct words; `rows`: word → its items. Cronen-Townsend et al. 2002 (SIGIR) call this clarity
    of a query, here with Dirichlet smoothing.
    """
    number: dict[str, int] = {}
    ids = [np.array([number.setdefault(word, len(number)) for word in text], dtype=np.int64) for text in texts]
    background = np.bincount(np.concatenate(ids), minlength=len(number)).astype(np.float64) if number else np.zeros(0)
    background /= max(1.0, background.sum())
    return {word: _divergence(word, number, ids, rows, background) for word in words if word in number}


def _divergence(
    word: str,
    number: Mapping[str, int],
    ids: Sequence[np.ndarray],
    rows: Mapping[str, Sequence[int]],
    background: np.ndarray,
) -> float:
    own = rows[word]
    chosen = own[:: max(1, -(-len(own) // _MOST))]
    seen, counts = np.unique(np.concatenate([ids[row] for row in chosen]), return_counts=True)
    beside = seen != number[word]
    seen, counts = seen[beside], counts[beside]
    rest = background[seen]
    share = (counts + _SMOOTHING * rest) / (counts.sum() + _SMOOTHING)
    unseen = max(0.0, 1.0 - float(rest.sum())) * _SMOOTHING / (counts.sum() + _SMOOTHING)
    return float((share * np.log(share / rest)).sum() + unseen * np.log(_SMOOTHING / (counts.sum() + _SMOOTHING)))
