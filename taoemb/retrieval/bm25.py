"""The inverted-index route: what word matching alone would bring, as a baseline and for the exclusivity reward.

The tokeniser is shared by both of the reward's measures, so that "covered by BM25" and "covered by terms" agree on
what a term is.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import bm25s
import numpy as np

from taoemb.errors import InputError

if TYPE_CHECKING:
    from taoemb.data.dataset import Catalogue

MEMORY = 65_536  # queries whose answer is kept
_BATCH = 4096
_COLUMNS = ("title", "brand", "category", "attributes")
_POSSESSIVE = re.compile(r"'s\b")
# Numbers with a decimal point stay whole; Chinese characters and kana, written without spaces, stand alone.
_TERM = re.compile(
    r"\d+(?:\.\d+)+|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)


def terms(text: str) -> list[str]:
    """The lower-cased words of `text`, in order, English plurals folded (after Harman's S-stemmer, 1991)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return [_singular(word) for word in _TERM.findall(_POSSESSIVE.sub("", text.casefold()))]


def overlap(query: str, title: str) -> float:
    """Share of the query's distinct terms that the title covers; a query without terms is covered by everything."""
    wanted = set(terms(query))
    return len(wanted.intersection(terms(title))) / len(wanted) if wanted else 1.0


class BM25Route:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over title, brand, category and attribute values of a catalogue."""

    def __init__(self, catalogue: "Catalogue", top: int) -> None:
        if top < 1:
            raise InputError(f"the BM25 route needs a depth of at least 1, not {top}")
        self.top_n = top
        self.vocabulary: dict[str, int] = {}
        documents = [self._number(terms(text)) for text in _texts(catalogue)]
        self._empty = not self.vocabulary
        self._index = bm25s.BM25(method="lucene")
        if not self._empty:
            self._index.index((documents, self.vocabulary), create_empty_token=False, show_progress=False)
        self._known: dict[str, np.ndarray] = {}

    def top(self, queries: Sequence[str]) -> np.ndarray:
        """Rows of the best items that share a term with each query: (Q, top) int64, best first, padded with -1.

        Of equal scores the lower row comes first.
        """
        found = np.full((len(queries), self.top_n), -1, dtype=np.int64)
        for row, query in zip(found, queries, strict=True):
            best = self._remembered(query)
            row[: len(best)] = best
        return found

    def _remembered(self, query: str) -> np.ndarray:
        best = self._known.get(query)
        if best is None:
            best = self._search(query)
            if len(self._known) >= MEMORY:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[query] = best
        return best

    def _search(self, query: str) -> np.ndarray:
        ids = sorted({self.vocabulary[term] for term in terms(query) if term in self.vocabulary})
        if not ids:
            return np.empty(0, dtype=np.int64)
        scores = self._index.get_scores_from_ids(ids)
        rows = np.flatnonzero(scores > 0)
        if len(rows) > self.top_n:  # everything at least as good as the last place, ties included
            last = np.partition(scores[rows], len(rows) - self.top_n)[len(rows) - self.top_n]
            rows = rows[scores[rows] >= last]
        return rows[np.argsort(-scores[rows], kind="stable")][: self.top_n]

    def _number(self, words: Sequence[str]) -> np.ndarray:
        vocabulary = self.vocabulary
        return np.array([vocabulary.setdefault(word, len(vocabulary)) for word in words], dtype=np.int32)


def _texts(catalogue: "Catalogue") -> Iterator[str]:
    """What the route reads of each item, in row order; descriptions are never touched."""
    for rows in catalogue.batches(_BATCH):
        columns = [catalogue.column(name).slice(rows[0], len(rows)) for name in _COLUMNS]
        for title, brand, category, attributes in zip(*(column.to_pylist() for column in columns), strict=True):
            parts = (title, brand, category, *(value for _, value in attributes or ()))
            yield " ".join(part for part in parts if part)


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s"):
        return word
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if word.endswith("ies") and word[-4] not in "ea":
        return word[:-3] + "y"
    return word if word.endswith(("us", "ss", "ies")) else word[:-1]
