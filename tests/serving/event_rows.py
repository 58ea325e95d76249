"""Rows as the gateway hands them over."""

import itertools
import time
import uuid
from typing import Any

_numbers = itertools.count()


def page(**changes: Any) -> dict[str, Any]:
    """A served page of a unit of its own, in the database as soon as it was served unless `arrived` says otherwise."""
    row = {
        "request_id": uuid.uuid4().hex,
        "at": time.time(),
        "rollout": "summer",
        "unit": f"user-{next(_numbers)}",
        "assigned": "control",
        "served": "control",
        "forced": False,
        "percent": 5.0,
        "query": "warm wool rug",
        "k": 10,
        "filter": "",
        "release": "a" * 64,
        "collection": "taoemb_a",
        "status": "ok",
        "total_ms": 12.0,
        "encoder_ms": 5.0,
        "search_ms": 4.0,
        "items": [{"item_id": "1", "score": 0.9, "title": "Rug", "brand": "B", "category": "rugs", "price": 10.0}],
    } | changes
    return {"arrived": row["at"]} | row


def click(request_id: str, **changes: Any) -> dict[str, Any]:
    """A click on the first item of a page."""
    return {
        "event_id": uuid.uuid4().hex,
        "request_id": request_id,
        "type": "click",
        "item_id": "1",
        "position": 1,
        "value": None,
        "at": time.time(),
    } | changes
