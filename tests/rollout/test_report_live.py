"""The live page's server: what it answers, whatever it is asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.report.data import ReportData, stored_report
from taoemb.rollout.report.live import live_page
from taoemb.rollout.report.page import to_json
from taoemb.serving.events.store import EventStore
from tests.rollout.recorded import NAME, START, events_config, record, running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    with EventStore(events_config(tmp_path_factory.mktemp("live"))) as store:
        record(store, running(), 3, 50)
        return stored_report(store, NAME, START + 700)


@contextmanager
def serving(data: ReportData | TaoembError) -> Iterator[httpx.Client]:
    def read() -> ReportData:
        if isinstance(data, TaoembError):
            raise data
        return data

    with live_page(read, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_address[1]}", trust_env=False) as http:
            try:
                yield http
            finally:
                server.shutdown()
                thread.join()


def test_the_page_and_its_numbers(data: ReportData) -> None:
    with serving(data) as http:
        page = http.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert http.get("/?again").text == page.text
        numbers = http.get("/report.json").json()
        assert numbers["name"] == NAME
        assert len(numbers["looks"]) == len(to_json(data)["looks"])
        head = http.head("/")
        assert (head.status_code, head.content) == (200, b"")


def test_other_paths_are_not_here(data: ReportData) -> None:
    with serving(data) as http:
        for path in ("/etc/passwd", "/..%2f..%2fetc", "/report.html"):
            answer = http.get(path)
            assert answer.status_code == 404
            assert answer.headers["content-type"].startswith("text/plain")
        assert http.post("/", content=b"x").status_code == 501


def test_a_database_that_is_away_is_said_and_asked_again() -> None:
    with serving(TaoembError("the events database does not answer <b>")) as http:
        answer = http.get("/")
        assert answer.status_code == 503
        assert answer.text == "the events database does not answer <b>\n"
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["refresh"] == "10"


def test_a_taken_port_is_said(data: ReportData, tmp_path: Path) -> None:
    with live_page(lambda: data, "127.0.0.1", 0) as server:
        port = server.server_address[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}"), live_page(lambda: data, "127.0.0.1", int(port)):
            pass
