"""What the base model knew before any grading: the cosine of query and item, each embedded by itself.

A judge trained on one catalogue's graded queries is better there than anywhere else. Its base model knows other words,
so its cosine is added as evidence: on another catalogue both together beat each alone, and on people's grades the judge
no longer falls behind the cosine by as much. That it passes the cosine there is not shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taoemb.encoder.model import Encoder, Kind
from taoemb.encoder.pooling import Pooling
from taoemb.judge.view import static

REMEMBERED = 50_000  # vectors kept, of queries and of items: training asks for the same ones again and again


@dataclass(frozen=True)
class ZeroShotSpec:
    """How the cosine counts; part of the judge's digest."""

    weight: float
    """Log-odds of grade 4 against grade 1 for a cosine of 1 above `neutral`."""
    neutral: float
    """The cosine that speaks neither for nor against."""
    pooling: Pooling
    query_template: str = "{text}"
    item_prefix: str = ""
    max_query_tokens: int = 64
    max_item_tokens: int = 128


class ZeroShot:
    """Cosines by a frozen encoder, which reads an item's title, category and the beginning of its description."""

    def __init__(self, encoder: Encoder, item_prefix: str = "") -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self._prefix = item_prefix
        self._known: dict[Kind, dict[str, np.ndarray]] = {"query": {}, "item": {}}

    def cosines(self, queries: Sequence[str], item_texts: Sequence[str]) -> np.ndarray:
        """(P,) float32: the cosine of each pair; items are texts of `judge.prompt.item_text`."""
        items = [self._prefix + static(text) for text in item_texts]
        of_query, of_item = self._vectors(queries, "query"), self._vectors(items, "item")
        pairs = zip(queries, items, strict=True)
        return np.array([of_query[query] @ of_item[item] for query, item in pairs], dtype=np.float32)

    def _vectors(self, texts: Sequence[str], kind: Kind) -> dict[str, np.ndarray]:
        """Text → vector, of these texts and of others that were asked for before."""
        known = self._known[kind]
        distinct = list(dict.fromkeys(texts))
        missing = [text for text in distinct if text not in known]
        if len(known) + len(missing) > REMEMBERED:
            known.clear()
            missing = distinct
        known.update(zip(missing, self.encoder.encode(missing, kind), strict=True))
        return known
