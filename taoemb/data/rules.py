"""Grades items for generated queries by rules, from what was mined of the catalogue.

- 4 Excellent: the type (or another word for it) and every facet;
- 3 Related: the type, every hard facet (series, feature, what it is for), and exactly one soft facet (brand, value,
  measure, word) missed; or another model of the wanted series;
- 2 Mismatch: the type with more missed, or with a hard facet missed in the anchor's brand; another kind of the same
  thing; an accessory of the thing, that is an item that names it without being it;
- 1 Irrelevant: everything else.

An item whose type could not be read, or that does not say whether it has a feature, is not graded where that matters.
"""

import numpy as np

from taoemb.data.facets import Facet
from taoemb.data.mining import Mined
from taoemb.data.query_writer import Asked


class Rules:
    """Grades every item for a query from what was mined of the catalogue."""

    def __init__(self, mined: Mined) -> None:
        self.mined = mined
        n = len(mined.items)
        self.typed = np.array([bool(item.types) for item in mined.items])
        self.weight = {
            facet[1]: float(np.log(n / len(rows))) for facet, rows in mined.rows.items() if facet[0] == "word"
        }

    def grade(self, query: Asked) -> np.ndarray:
        """Grade of every item by the rules above, int8; 0 where it is not known."""
        soft = [self._holds(facet) for facet in query.soft]
        hard = [self._holds(facet) for facet in query.hard]
        missed = sum((~holds for holds in soft), np.zeros(len(self.typed), dtype=np.int8))
        firm = np.logical_and.reduce([*hard, np.ones(len(self.typed), dtype=bool)])
        anchor = self.mined.items[query.anchor]
        brand = self.mined.where(("brand", anchor.brand)) if anchor.brand else np.ones(len(self.typed), dtype=bool)
        series = self.mined.where(*(facet for facet in anchor.facets if facet[0] == "series"))
        other_model = series & (missed == 0) if any(facet[0] == "model" for facet in query.hard) else ~firm & firm
        right, near = self._of_type(query) if query.type else self._kin(query, brand)
        grades = np.ones(len(self.typed), dtype=np.int8)
        grades[near & ~right] = 2
        grades[right & (firm | brand)] = 2
        grades[right & ((firm & (missed == 1)) | (other_model & ~firm))] = 3
        if query.type:
            grades[right & firm & (missed == 0)] = 4
            grades[~self.typed & ~right] = 0
        else:
            grades[~self.typed & brand] = 0
            grades[firm & (missed == 0)] = 4
        for facet in query.hard:
            if facet[0] in ("has", "lacks"):
                answered = self.mined.where(facet, ("lacks" if facet[0] == "has" else "has", facet[1]))
                grades[right & ~answered] = 0
        self._leave_open(query, grades, right)
        return grades

    def _leave_open(self, query: Asked, grades: np.ndarray, right: np.ndarray) -> None:
        """What an index of own words (own_words.py) cannot know gets grade 0.

        An item that names the type among others may be one; an item of the anchor's own category, or with a title in
        another script, may be the same thing in other words.
        """
        grades[self.mined.where(("unsure", query.type)) & ~right] = 0
        for facet in self.mined.items[query.anchor].facets:
            if facet[0] in ("script", "category"):
                alike = self.mined.where(facet)
                grades[(grades == 1) & (alike if facet[0] == "category" else ~alike)] = 0

    def _kin(self, query: Asked, brand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For a query without a type: items of the anchor's type and brand, and what goes with what the query names."""
        anchor = self.mined.items[query.anchor]
        kinds = self.mined.same(anchor.types[0]) if anchor.types else ()
        kin = self.mined.where(*(("type", kind) for kind in kinds)) if anchor.types else ~self.typed
        near = np.zeros(len(kin), dtype=bool)
        for kind, name in (*query.hard, *query.soft):
            if kind in ("model", "series") or (kind == "brand" and query.kind == "brand"):
                near |= self.mined.where(("for", name)) | self.mined.with_words(self.mined.words(name), "named")
        return kin & brand, near

    def _of_type(self, query: Asked) -> tuple[np.ndarray, np.ndarray]:
        """Items that are the query's type, and items of another kind of it or that go with it."""
        phrase = query.type or ()
        right = self.mined.where(*(("type", same) for same in self.mined.same(phrase)))
        head = self.mined.where(("type", phrase[-1:]))
        described = self.mined.with_words(phrase, "word")
        return right | (head & described), head | self.mined.with_words(phrase, "named")

    def _holds(self, facet: Facet) -> np.ndarray:
        kind, value = facet
        if kind == "value":
            return self.mined.where(facet) | self.mined.with_words(self.mined.words(value), "named")
        return self.mined.where(facet)

    def choose(
        self, query: Asked, grades: np.ndarray, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to judge and their grades: some of every grade, and items that share words with the query but are worse.

        A quarter of the judgments each goes to grade 4, grade 3, look-alikes of grades 1 and 2, and the rest to random
        items of grades 2 and 1; what one part lacks goes to the others.
        """
        part = max(1, count // 4)
        likeness = np.zeros(len(grades), dtype=np.float32)
        for word in self.mined.words(query.text):
            if ("word", word) in self.mined.rows:
                likeness[self.mined.rows["word", word]] += self.weight[word]
        likeness += rng.random(len(grades), dtype=np.float32) * 0.5
        likeness[(grades == 0) | (grades >= 3)] = -1
        alike = np.argpartition(-likeness, min(part * 3, len(grades) - 1))[: part * 3]
        alike = some(alike[likeness[alike] > 1], part, rng)
        chosen = [some(np.flatnonzero(grades == 4), part, rng), some(np.flatnonzero(grades == 3), part, rng), alike]
        left = count - sum(map(len, chosen))
        mismatched = some(np.setdiff1d(np.flatnonzero(grades == 2), alike), max(1, left // 2), rng)
        chosen.append(mismatched[: max(0, left)])
        left = count - sum(map(len, chosen))
        far = rng.integers(len(grades), size=4 * count)
        far = np.setdiff1d(np.unique(far[grades[far] == 1]), np.concatenate(chosen))
        rows = np.unique(np.concatenate([*chosen, some(far, max(0, left), rng)])).astype(np.int64)
        return rows, grades[rows]


def some(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` of the rows, at random."""
    return rows if len(rows) <= count else rng.choice(rows, count, replace=False)
