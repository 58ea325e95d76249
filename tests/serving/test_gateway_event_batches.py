"""A large batch of events leaves the event loop to searches in between."""

import asyncio
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.requests import Request

from taoemb.config import GatewayConfig
from taoemb.serving.gateway.callers import Limits
from taoemb.serving.gateway.metrics import gateway_metrics
from taoemb.serving.gateway.models import Event
from taoemb.serving.gateway.page_ids import PageIds
from taoemb.serving.gateway.shoppers import ShopperRoutes


class Rows:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def page(self, row: dict[str, Any]) -> None:
        raise AssertionError

    def event(self, row: dict[str, Any]) -> None:
        self.events.append(row)

    def close(self) -> None:
        pass


def test_a_thousand_events_are_recorded_in_many_turns(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 64 + "\n")
    ids, config = PageIds(tmp_path / "key", 3600), GatewayConfig(client_events=1000, client_burst_s=60)
    routes = ShopperRoutes(config, None, gateway_metrics(CollectorRegistry()), ids, Limits(config))  # type: ignore[arg-type]
    routes.rows = rows = Rows()
    batch = [Event(type="click", request_id=ids.new(), item_id="i", position=1) for _ in range(1000)]
    request = Request({"type": "http", "headers": [], "client": ("192.0.2.1", 1)})

    async def run() -> tuple[int, int]:
        turns = 0

        async def search() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        searching = asyncio.create_task(search())
        reply = await routes.take(request, batch)
        searching.cancel()
        return reply.status_code, turns

    status, turns = asyncio.run(run())
    assert status == 202
    assert len(rows.events) == 1000
    assert turns >= 40
