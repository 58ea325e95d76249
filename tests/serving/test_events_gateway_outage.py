"""PostgreSQL goes away under the real gateway: no search fails, and each page and event is kept once."""

import threading
import time
import uuid
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from taoemb.config import EventsConfig
from taoemb.serving.events.store import EventStore
from taoemb.serving.events.writer import Recorder
from taoemb.serving.traffic import Traffic
from tests.serving.gateway_shop import QUERIES, Shop, StubEncoder, running_gateway, wait_until
from tests.serving.postgres import PostgresServer

Encoders = dict[str, StubEncoder]


class Shopper(threading.Thread):
    """Searches, and clicks on the first item of each page, until told to stop."""

    def __init__(self, url: str, number: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.url, self.number, self.pause_s = url, number, pause_s
        self.pages: set[str] = set()
        self.clicks: set[str] = set()
        self.failures: list[str] = []
        self.leaves = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not self.leaves.wait(self.pause_s):
                self._search_and_click(http)

    def _search_and_click(self, http: httpx.Client) -> None:
        user = f"user-{self.number}-{len(self.pages)}"
        found = http.post("/search", json={"query": QUERIES[len(self.pages) % len(QUERIES)], "user": user})
        if found.status_code != 200:
            self.failures.append(found.text)
            return
        page = found.json()
        self.pages.add(page["request_id"])
        click = {"type": "click", "event_id": uuid.uuid4().hex, "request_id": page["request_id"], "position": 1}
        taken = http.post("/events", json=click)
        if taken.status_code != 202:
            self.failures.append(taken.text)
            return
        self.clicks.add(click["event_id"])


def kept_rows(url: str) -> tuple[list[str], list[str]]:
    """Ids of the pages and of the clicks in the database."""
    with EventStore(EventsConfig(url=url)) as store:
        kept = [page.request_id for page in store.all_pages("summer")]
        return kept, [event.event_id for event in store.events(kept)]


def outage(
    shop: Shop, encoders: Encoders, server: PostgresServer, url: str, folder: Path, away_s: float, pause_s: float
) -> int:
    """How many searches were answered; fails when one was not, or when a row is missing or twice there."""
    traffic = Traffic(encoders["base"].arm, encoders["other"].arm, 50.0, "ab", "summer", "salt")
    with running_gateway(folder, shop.copy(folder), traffic, f"events.url={url}", "events.flush_s=0.05") as gateway:
        shoppers = [Shopper(gateway.url, number, pause_s) for number in range(2)]
        for shopper in shoppers:
            shopper.start()
        time.sleep(1)
        server.stop()
        try:
            time.sleep(away_s)
        finally:
            server.start()
        time.sleep(1)
        for shopper in shoppers:
            shopper.leaves.set()
        for shopper in shoppers:
            shopper.join(60)
    assert [shopper.failures for shopper in shoppers] == [[], []]
    pages = set().union(*(shopper.pages for shopper in shoppers))
    clicks = set().union(*(shopper.clicks for shopper in shoppers))
    rows = len(pages) + len(clicks)
    config = EventsConfig(url=url, spool=folder / "spool", flush_s=0.05)
    with Recorder(config, CollectorRegistry()):  # a gateway that ends in a hurry leaves rows to the next one
        wait_until(lambda: sum(map(len, kept_rows(url))) >= rows, 120)
    kept, kept_clicks = kept_rows(url)
    assert sorted(kept) == sorted(pages)
    assert sorted(kept_clicks) == sorted(clicks)
    assert not list((folder / "spool").glob("*.jsonl"))
    return len(kept)


def test_no_search_fails_and_no_row_is_lost_while_postgresql_is_away(
    gateway_shop: Shop, gateway_encoders: Encoders, postgres_server: PostgresServer, postgres: str, tmp_path: Path
) -> None:
    assert outage(gateway_shop, gateway_encoders, postgres_server, postgres, tmp_path, 2, 0.02) > 20


@pytest.mark.slow
def test_no_search_fails_and_no_row_is_lost_in_an_outage_of_a_minute(
    gateway_shop: Shop, gateway_encoders: Encoders, postgres_server: PostgresServer, postgres: str, tmp_path: Path
) -> None:
    answered = outage(gateway_shop, gateway_encoders, postgres_server, postgres, tmp_path, 60, 0.0)
    print(f"{answered} searches")
    assert answered > 500
