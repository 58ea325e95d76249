"""Which slices a query belongs to: those of a dataset that knows the query, and those of the plan's patterns."""

from taoemb.errors import InputError
from taoemb.rollout.patterns import query_pattern
from taoemb.rollout.plan import ALL, Plan, check_guarded

_MOST_KNOWN = 100_000  # queries whose slices are kept


class Slicer:
    """Slices by query text. Raises InputError for a bad folder, or a guardrail on a slice that is not there."""

    def __init__(self, plan: Plan) -> None:
        self._rules = [(rule.name, query_pattern(rule.pattern)) for rule in plan.slices]
        self._listed = _listed(plan)
        self._known: dict[str, frozenset[str]] = {}
        try:
            check_guarded(plan, self.names)
        except ValueError as error:
            raise InputError(f"plan: {error}") from None

    @property
    def names(self) -> list[str]:
        """All slices that a query can belong to, whether one came yet or not: plain names first, categories last."""
        found = {name for name, _ in self._rules}.union(*self._listed.values())
        return sorted(found, key=lambda name: (name.startswith("category:"), name))

    def slices(self, query: str) -> frozenset[str]:
        """Names of the slices of a query, without "all"."""
        found = self._known.get(query)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            matching = (name for name, matches in self._rules if matches(query))
            found = self._known[query] = self._listed.get(same_query(query), frozenset()).union(matching)
        return found


def same_query(text: str) -> str:
    """What two texts have in common when they are the same query: case and spaces don't count."""
    return " ".join(text.casefold().split())


def _listed(plan: Plan) -> dict[str, frozenset[str]]:
    if plan.slice_queries is None:
        return {}
    from taoemb.data.dataset import open_dataset

    queries = open_dataset(plan.slice_queries, need=("queries",)).queries
    if queries is None:
        raise InputError(f"plan: slice_queries: {plan.slice_queries} holds no queries.parquet")
    listed: dict[str, frozenset[str]] = {}
    for text, slices in zip(queries.texts, queries.slices, strict=True):
        key = same_query(text)
        wanted = {name for name in slices if name and name != ALL and not name.startswith("template:")}
        listed[key] = listed.get(key, frozenset()).union(wanted)
    return listed
