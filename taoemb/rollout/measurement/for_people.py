"""The pages that wait for people, as a dataset folder that they can grade."""

from collections.abc import Sequence
from pathlib import Path

from taoemb.errors import InputError
from taoemb.rollout.measurement.observations import Observations
from taoemb.rollout.measurement.people import People
from taoemb.rollout.measurement.slicing import same_query
from taoemb.rollout.plan import parse_plan
from taoemb.rollout.state import from_json
from taoemb.serving.events.rows import Page
from taoemb.serving.events.store import EventStore


def write_waiting(store: EventStore, name: str, folder: Path) -> Path | None:
    """Write the pages of a rollout that wait for people; None when its plan asks nobody.

    Raises InputError when there is no such rollout.
    """
    stored = store.rollouts.read(name)
    if stored is None:
        raise InputError(f"rollout {name}: not in the events database; check --set events.url")
    plan = parse_plan(stored.plan, f"rollout {name}")
    if plan.human is None:
        return None
    seen = Observations(name, from_json(stored.state).salt, plan, people=People(plan.human))
    seen.read(store, None)
    waiting = store.pages([page.request_id for page in seen.for_people()])
    return write_for_people(list(waiting.values()), plan.depth, folder)


def write_for_people(pages: Sequence[Page], depth: int, folder: Path) -> Path:
    """Write pages as a dataset folder whose pairs are to be graded; people add judgments.parquet. Returns `folder`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from taoemb.data.schemas import ITEMS, PAIRS, QUERIES, file_name

    queries: dict[str, dict[str, object]] = {}
    items: dict[str, dict[str, object]] = {}
    pairs: dict[tuple[str, str], dict[str, object]] = {}
    for page in pages:
        query = queries.setdefault(
            same_query(page.query), {"query_id": f"q{len(queries)}", "text": page.query, "slices": []}
        )
        for item in (page.items or ())[:depth]:
            known = {name: item.get(name) for name in ("title", "brand", "category", "price")}
            items.setdefault(item["item_id"], {"item_id": item["item_id"], **known})
            pair = {"query_id": query["query_id"], "item_id": item["item_id"], "weight": 1.0}
            pairs[str(query["query_id"]), item["item_id"]] = pair
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema, rows in (("items", ITEMS, items), ("queries", QUERIES, queries), ("pairs", PAIRS, pairs)):
        table = pa.Table.from_pylist(list(rows.values()), schema)
        partial = folder / f".{file_name(name)}.partial"
        pq.write_table(table, partial)
        partial.replace(folder / file_name(name))
    return folder
