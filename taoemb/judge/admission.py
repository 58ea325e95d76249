"""Admission: may this judge teach this encoder? Nobody learns from a teacher that knows less.

Retrieval-GRPO moves the encoder towards what the judge prefers. Where the encoder already orders items better than the
judge does, that makes it worse, and no setting helps. So both are tried first on pairs with known grades that neither
was trained on: within each query, which share of the item pairs with different grades do they put in the right order?
The judge is admitted when its mean over queries is surely higher, by a bootstrap over queries, which pairs the two.
"""

from dataclasses import dataclass

import numpy as np
import torch

from taoemb.data.dataset import Dataset, Judgments
from taoemb.data.schemas import RULE_SOURCE
from taoemb.encoder.release import Release
from taoemb.encoder.text import ItemTemplate
from taoemb.errors import InputError
from taoemb.judge.agreement import CONFIDENCE, GOOD_GRADE, RESAMPLES, Counts, ordered_share, resampled
from taoemb.judge.client import JudgeClient
from taoemb.judge.failures import JudgeUnfit

Device = str | torch.device
PAIRS = 500  # (query, item) that the judge is asked about at most
FEWEST_QUERIES = 10  # with grades that differ; an interval from fewer says nothing
PER_QUERY = 6  # pairs of a query that are worth more than another query's
JUDGED = "judge"  # begins the source of a judge's grades; what neither judge nor rule graded is people's


@dataclass(frozen=True)
class Compared:
    """A measure of both on the same queries, and its difference with an interval (confidence 0.95)."""

    judge: float
    encoder: float
    gain: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True)
class Admission:
    """What came out; `good` looks only at item pairs of which one is good (grade ≥ 3) and one is not."""

    admitted: bool
    judge: str
    encoder: str
    source: str
    pairs: int
    unanswered: int
    order: Compared
    good: Compared | None
    disagreed: int
    """Item pairs with different grades that the two put in opposite order …"""
    judge_right: float | None
    """… and in how many of them the judge is right."""

    @property
    def line(self) -> str:
        """The verdict in one line."""
        o = self.order
        said = (
            f"on {self.pairs} pairs of {o.queries} queries graded by {self.source} the judge orders {o.judge:.3f} of a "
            f"query's items right and the encoder {o.encoder:.3f}: {o.gain:+.3f} [{o.low:+.3f}, {o.high:+.3f}]"
        )
        return said if self.admitted else f"{said}; a judge must be surely better than the encoder that it teaches"


def admission(
    client: JudgeClient,
    release: Release,
    data: Dataset,
    *,
    limit: int = PAIRS,
    seed: int = 0,
    device: Device = "cpu",
) -> Admission:
    """Try judge and encoder on at most `limit` judgments of `data`: people's first, else a judge's, else rules'.

    Open `data` with every judgment: a pair that people and rules graded has people's grade.

    Those that trained either make it look better than it is: give data kept out of both. Raises InputError when the
    data has too few graded queries, JudgeUnfit when too many pairs stay unanswered, JudgeUnavailable when the judge is
    away.
    """
    judgments, source = _best_source(data)
    rows = _chosen(judgments, limit, seed)
    queries, items = judgments.query_rows[rows], judgments.item_rows[rows]
    judged = client.grade([data.queries.texts[row] for row in queries], data.items.records(items))
    answered = ~np.isnan(judged.relevance)
    if 1 - answered.mean() > client.config.max_unanswered:
        raise JudgeUnfit(f"the judge left {1 - answered.mean():.0%} of {len(rows)} pairs unanswered: {judged.problem}")
    scores = _cosines(release, data, queries, items, device)
    tried = _Tried(queries[answered], judgments.grades[rows][answered], judged.relevance[answered], scores[answered])
    order = tried.compared(lambda high, low: high > low, seed)
    if order is None:
        raise InputError(f"{data.root}: none of the answered pairs differ in grade within a query")
    good = tried.compared(lambda high, low: (high >= GOOD_GRADE) & (low < GOOD_GRADE), seed)
    disagreed, right = tried.disagreement()
    return Admission(
        order.low > 0,
        client.release,
        release.manifest.digest,
        source,
        int(answered.sum()),
        int((~answered).sum()),
        order,
        good,
        disagreed,
        right,
    )


def _kind(source: str) -> int:
    """0 people's, 1 a judge's, 2 rules'; a pair that several graded is of the first of them."""
    names = source.split(" + ")
    return min(2 if name == RULE_SOURCE else 1 if name.startswith(JUDGED) else 0 for name in names)


def _best_source(data: Dataset) -> tuple[Judgments, str]:
    """The judgments of the best kind of source that has enough queries with grades that differ."""
    judgments = data.judgments
    if judgments is None or not len(judgments):
        raise InputError(f"{data.root}: has no judgments to try the judge on; give a dataset with graded pairs")
    kinds = np.array([_kind(source) for source in judgments.sources])
    found = 0
    for kind, name in enumerate(("people", "another judge", "rules")):
        rows = np.flatnonzero(kinds == kind)
        sources = [""] * len(rows)
        part = Judgments(
            judgments.query_rows[rows], judgments.item_rows[rows], judgments.grades[rows], sources
        ).settled()
        count = len(_mixed(part))
        found = max(found, count)
        if count >= FEWEST_QUERIES:
            return part, name
    raise InputError(
        f"{data.root}: {found} queries have items of different grades, fewer than {FEWEST_QUERIES}: no interval can be "
        "told from them; give more graded pairs"
    )


def _mixed(judgments: Judgments) -> np.ndarray:
    """Query rows with grades that differ."""
    if not len(judgments):
        return np.empty(0, dtype=np.int64)
    queries, numbers = np.unique(judgments.query_rows, return_inverse=True)
    low, high = np.full(len(queries), 5), np.zeros(len(queries))
    np.minimum.at(low, numbers, judgments.grades)
    np.maximum.at(high, numbers, judgments.grades)
    return queries[high > low]


def _chosen(judgments: Judgments, limit: int, seed: int) -> np.ndarray:
    """Rows of at most `limit` judgments: as many queries as may have PER_QUERY pairs, their grades taken in turn."""
    rng = np.random.default_rng([seed, 5])
    queries = rng.permutation(_mixed(judgments))[: max(FEWEST_QUERIES, limit // PER_QUERY)]
    share = max(2, limit // len(queries))
    chosen: list[int] = []
    for query in queries:
        rows = rng.permutation(np.flatnonzero(judgments.query_rows == query))
        place = dict.fromkeys(range(1, 5), 0)
        turns = []
        for row in rows:
            grade = int(judgments.grades[row])
            turns.append(place[grade])
            place[grade] += 1
        chosen += rows[np.argsort(turns, kind="stable")[:share]].tolist()
    return np.sort(np.array(chosen[:limit], dtype=np.int64))


def _cosines(
    release: Release, data: Dataset, queries: np.ndarray, items: np.ndarray, device: str | torch.device
) -> np.ndarray:
    query_encoder = release.query_encoder(device)
    item_encoder = query_encoder if release.shared else release.item_encoder(device)
    query_rows, of_query = np.unique(queries, return_inverse=True)
    item_rows, of_item = np.unique(items, return_inverse=True)
    query_vectors = query_encoder.encode([data.queries.texts[row] for row in query_rows], "query")
    texts = data.items.texts(item_rows, ItemTemplate(item_encoder.spec.item_template))
    item_vectors = item_encoder.encode(texts, "item")
    return np.einsum("pd,pd->p", query_vectors[of_query], item_vectors[of_item])


@dataclass(frozen=True)
class _Tried:
    """P answered pairs: query rows, given grades, the judge's relevance, the encoder's cosine."""

    queries: np.ndarray
    grades: np.ndarray
    relevance: np.ndarray
    cosines: np.ndarray

    def compared(self, counts: Counts, seed: int) -> Compared | None:
        """Both on the item pairs for which `counts(higher grade, lower grade)`; None without a query that has any."""
        _, numbers = np.unique(self.queries, return_inverse=True)
        judge_Q, encoder_Q = (
            ordered_share(numbers, self.grades, scores, counts) for scores in (self.relevance, self.cosines)
        )
        asked = np.isfinite(judge_Q)
        if not asked.any():
            return None
        gain_Q = (judge_Q - encoder_Q)[asked]
        weights_RQ = resampled(len(gain_Q), RESAMPLES, seed)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(weights_RQ @ gain_Q / len(gain_Q), [tail, 1 - tail])
        judge, encoder = float(judge_Q[asked].mean()), float(encoder_Q[asked].mean())
        return Compared(judge, encoder, judge - encoder, float(low), float(high), len(gain_Q))

    def disagreement(self) -> tuple[int, float | None]:
        """Item pairs that the two order differently, and the share in which the judge is right."""
        right = count = 0
        for query in np.unique(self.queries):
            rows = np.flatnonzero(self.queries == query)
            higher = self.grades[rows][:, None] > self.grades[rows][None, :]
            judge, encoder = (
                np.sign(scores[rows][:, None] - scores[rows][None, :])[higher]
                for scores in (self.relevance, self.cosines)
            )
            apart = judge * encoder < 0
            count += int(apart.sum())
            right += int((judge[apart] > 0).sum())
        return count, right / count if count else None


def words_of(found: Admission) -> list[tuple[str, str]]:
    """Rows for people: what, and what came out."""

    def shown(one: Compared | None) -> str:
        if one is None:
            return "undefined here"
        return f"{one.judge:.3f} against {one.encoder:.3f}: {one.gain:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"

    right = "none" if found.judge_right is None else f"{found.disagreed}; the judge is right in {found.judge_right:.3f}"
    return [
        ("admitted", "yes" if found.admitted else "no"),
        ("judge", found.judge),
        ("encoder", found.encoder),
        ("graded by", found.source),
        ("pairs", f"{found.pairs} of {found.order.queries} queries, {found.unanswered} unanswered"),
        ("items in order, judge against encoder", shown(found.order)),
        ("good before not good", shown(found.good)),
        ("item pairs on which they disagree", right),
    ]
