"""The shop of a simulated rollout: what each arm finds for each query, and how good that truly is.

Encoders are not trained here but made: an item's vector is the sum of random vectors of its words, a query's vector
the sum of some good items' vectors, each arm's own choice of them. So both arms find good and different pages, and the
oracle of the generated shop knows how good every page is.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from taoemb.data.dataset import Catalogue
from taoemb.data.truth import Truth
from taoemb.errors import InputError
from taoemb.serving.traffic import ArmName

DIMENSION = 64
GOOD_GRADE = 3
ARMS: tuple[ArmName, ...] = ("control", "candidate")
_SOURCES = 3  # good items that a query's vector is made of


@dataclass(frozen=True)
class World:
    """Q queries that have good items, N items, pages of depth K."""

    truth: Truth
    queries: tuple[str, ...]
    item_vectors_ND: np.ndarray
    query_vectors_QD: Mapping[ArmName, np.ndarray]
    pages_QK: Mapping[ArmName, np.ndarray]
    """Rows of the items that each arm's vector of a query finds, best first."""
    grades_QN: np.ndarray
    """True grades, int8."""


def make_world(truth: Truth, queries: int, depth: int, seed: int) -> World:
    """A world over the `queries` queries of the shop with the most good items.

    Raises InputError when the shop has fewer than two queries with at least `depth` good items.
    """
    found = [(text, truth.grades(text)) for text in truth.data.queries.texts]
    enough = [one for one in found if (one[1] >= GOOD_GRADE).sum() >= depth]
    if len(enough) < 2:
        raise InputError(
            f"{truth.data.root}: {len(enough)} queries have {depth} good items; a simulation needs 2 at least: "
            "generate more items (taoemb data synth --items) or lower the plan's depth"
        )
    chosen = sorted(enough, key=lambda one: -int((one[1] >= GOOD_GRADE).sum()))[:queries]
    grades_QN = np.stack([grades for _, grades in chosen])
    items_ND = item_vectors(truth.data.items)
    vectors = {arm: _query_vectors(items_ND, grades_QN, [seed, at]) for at, arm in enumerate(ARMS)}
    pages = {arm: np.argsort(-(of @ items_ND.T), axis=1, kind="stable")[:, :depth] for arm, of in vectors.items()}
    return World(truth, tuple(text for text, _ in chosen), items_ND, vectors, pages, grades_QN)


def item_vectors(items: Catalogue) -> np.ndarray:
    """Unit vectors (N, DIMENSION) float32 of the items' title and category words."""
    known: dict[str, np.ndarray] = {}
    titles, categories = items.column("title").to_pylist(), items.column("category").to_pylist()
    vectors = np.empty((len(items), DIMENSION), dtype=np.float32)
    for row, (title, category) in enumerate(zip(titles, categories, strict=True)):
        words = f"{title} {category}".lower().split()
        vectors[row] = np.sum([known.setdefault(word, _word_vector(word)) for word in words], axis=0)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def page_values(grades_QN: np.ndarray, pages_QK: np.ndarray) -> np.ndarray:
    """Share of good items (Q, Q): row i, column j is the page found by query j's vector, graded for query i."""
    return (grades_QN[:, pages_QK] >= GOOD_GRADE).mean(axis=2)


@dataclass(frozen=True)
class Levels:
    """Mean share of good items of an arm's pages over all queries."""

    right: float
    """When a query is answered by its own vector."""
    wrong: float
    """When it is answered by another query's vector."""

    def wrong_share(self, quality: float) -> float:
        """The share of wrongly answered searches that gives this mean. Raises InputError when none does."""
        share = (self.right - quality) / (self.right - self.wrong)
        if not 0 <= share <= 1:
            raise InputError(
                f"a share of good items of {quality:.3f} is out of reach in this shop ({self.wrong:.3f} to "
                f"{self.right:.3f}); lower --lift, --drift or --novelty, or change --quality"
            )
        return share


def levels(grades_QN: np.ndarray, pages_QK: np.ndarray) -> Levels:
    """Both levels of an arm, by these grades (true ones, or a judge's)."""
    values_QQ = page_values(grades_QN, pages_QK)
    own = np.eye(len(values_QQ), dtype=bool)
    return Levels(float(values_QQ[own].mean()), float(values_QQ[~own].mean()))


def _query_vectors(items_ND: np.ndarray, grades_QN: np.ndarray, seed: list[int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = np.empty((len(grades_QN), items_ND.shape[1]), dtype=np.float32)
    for row, grades in enumerate(grades_QN):
        good = np.flatnonzero(grades >= GOOD_GRADE)
        vectors[row] = items_ND[rng.choice(good, min(_SOURCES, len(good)), replace=False)].sum(axis=0)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _word_vector(word: str) -> np.ndarray:
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).standard_normal(DIMENSION)
