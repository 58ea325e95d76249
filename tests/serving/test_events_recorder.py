"""Recording through every kind of trouble: no row lost, none twice, and no caller kept waiting."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from taoemb.config import EventsConfig
from taoemb.errors import InputError
from taoemb.serving.events.database import open_engine
from taoemb.serving.events.spool import Spool
from taoemb.serving.events.store import EventStore
from taoemb.serving.events.writer import Recorder
from tests.serving.event_rows import click, page


def settings(url: str, tmp_path: Path, **changes) -> EventsConfig:
    return EventsConfig(**{"url": url, "spool": tmp_path / "spool", "flush_s": 0.02, "timeout_s": 5.0} | changes)


def stored(config: EventsConfig) -> tuple[set[str], set[str]]:
    """Request ids of pages and ids of events in the database, each known to stand there once."""
    with EventStore(config) as store:
        kept = [one.request_id for one in store.all_pages("summer")]
        events = [one.event_id for one in store.events(kept)]
    assert max(Counter(kept + events).values(), default=1) == 1
    return set(kept), set(events)


def wait_until(holds, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def segments(config: EventsConfig) -> list[Path]:
    return list(config.spool.glob("*.jsonl"))


def rejected(config: EventsConfig) -> str:
    return "".join(file.read_text() for file in (config.spool / "rejected").glob("*"))


def stream(recorder: Recorder, seconds: float, rate: float) -> tuple[set[str], set[str], list[float]]:
    """Hand over a page and a click at `rate` a second; what was taken, and how long each call took."""
    pages, events, took = set(), set(), []
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        row = page()
        happened = click(row["request_id"])
        before = time.perf_counter()
        recorder.page(row)
        recorder.event(happened)
        took.append((time.perf_counter() - before) / 2)
        pages.add(row["request_id"])
        events.add(happened["event_id"])
        time.sleep(max(0.0, start + len(pages) / rate - now))
    return pages, events, took


def survives_outage(server, url: str, tmp_path: Path, *, before: float, away: float, after: float, rate: float) -> None:
    config = settings(url, tmp_path)
    registry = CollectorRegistry()
    with Recorder(config, registry) as recorder:
        shutdown = threading.Timer(before, server.stop)
        back = threading.Timer(before + away, server.start)
        shutdown.start()
        back.start()
        pages, events, took = stream(recorder, before + away + after, rate)
        back.join()
        wait_until(lambda: not segments(config))
        wait_until(lambda: registry.get_sample_value("taoemb_events_lag_seconds") == 0)
    assert stored(config) == (pages, events)
    assert registry.get_sample_value("taoemb_events_written_rows_total", {"table": "pages"}) >= len(pages)
    assert registry.get_sample_value("taoemb_events_replayed_rows_total", {"table": "pages"}) > away * rate / 2
    took.sort()
    print(f"{len(took)} pages; a call took {1e6 * statistics.median(took):.0f} us, at most {1e3 * took[-1]:.1f} ms")
    assert statistics.median(took) < 0.002
    assert took[int(0.95 * len(took))] < 0.02


def test_no_row_is_lost_or_doubled_while_the_database_is_away(postgres_server, postgres, tmp_path):
    survives_outage(postgres_server, postgres, tmp_path, before=0.5, away=2.5, after=0.5, rate=300)


@pytest.mark.slow
def test_no_row_is_lost_or_doubled_in_an_outage_of_a_minute(postgres_server, postgres, tmp_path):
    survives_outage(postgres_server, postgres, tmp_path, before=2, away=60, after=3, rate=300)


def test_a_database_that_is_away_from_the_start_is_filled_later(postgres_server, postgres, tmp_path):
    config = settings(postgres, tmp_path)
    postgres_server.stop()
    try:
        recorder = Recorder(config, registry := CollectorRegistry())
        recorder.page(row := page())
        wait_until(lambda: registry.get_sample_value("taoemb_events_database_away") == 1)
    finally:
        postgres_server.start()
    wait_until(lambda: not segments(config))
    recorder.close()
    assert stored(config)[0] == {row["request_id"]}


def test_a_database_that_hangs_keeps_no_caller_waiting(postgres_server, postgres, tmp_path):
    config = settings(postgres, tmp_path, timeout_s=0.5)
    recorder = Recorder(config, registry := CollectorRegistry())
    recorder.page(first := page())
    wait_until(lambda: not segments(config))
    with postgres_server.frozen():
        pages, _, took = stream(recorder, 1.0, 200)
        wait_until(lambda: registry.get_sample_value("taoemb_events_database_away") == 1)
        assert registry.get_sample_value("taoemb_events_lag_seconds") > 0
        before = time.monotonic()
        recorder.close()
        assert time.monotonic() - before < 10
        assert segments(config)
    assert statistics.median(took) < 0.002
    Recorder(config, CollectorRegistry()).close()
    wait_until(lambda: not segments(config))
    assert stored(config)[0] == pages | {first["request_id"]}


STREAMER = """
import sys
from prometheus_client import CollectorRegistry
from taoemb.config import EventsConfig
from taoemb.serving.events.writer import Recorder
from tests.serving.event_rows import click, page

recorder = Recorder(EventsConfig.model_validate_json(sys.argv[1]), CollectorRegistry())
for _ in range(int(sys.argv[2])):
    row = page()
    recorder.page(row)
    happened = click(row["request_id"])
    recorder.event(happened)
    print(row["request_id"], happened["event_id"], flush=True)
recorder.close()
"""


def start_streamer(config: EventsConfig, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", STREAMER, config.model_dump_json(), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})


@pytest.mark.parametrize("away", [False, True], ids=["database up", "database away"])
def test_a_killed_process_loses_nothing_that_it_took(postgres_server, postgres, tmp_path, away):
    config = settings(postgres, tmp_path)
    with EventStore(config):
        pass
    if away:
        postgres_server.stop()
    try:
        process = start_streamer(config, 10**9)
        taken = [process.stdout.readline().split() for _ in range(400)]
        process.kill()
        taken += [pair for line in process.stdout.read().splitlines(keepends=True) if len(pair := line.split()) == 2]
        process.wait()
    finally:
        if away:
            postgres_server.start()
    Recorder(config, CollectorRegistry()).close()
    pages, events = stored(config)
    assert pages >= {request for request, _ in taken}
    assert events >= {event for _, event in taken[:-1]}
    assert len(pages) <= len(taken) + 1
    assert not segments(config)


def test_processes_may_share_a_spool_and_a_database(database, tmp_path):
    config = settings(database, tmp_path)
    processes = [start_streamer(config, 300) for _ in range(3)]
    out = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    Recorder(config, CollectorRegistry()).close()
    pages, events = stored(config)
    assert pages == {line.split()[0] for lines in out for line in lines}
    assert events == {line.split()[1] for lines in out for line in lines}
    assert len(pages) == 900


BAD_PAGES = [
    page(query="a\0b"),
    page(query="\ud800"),
    page(unit="u" * 257),
    page(k=2**31),
    page(k=1.5),
    page(total_ms=float("nan")),
    page(percent="5"),
    page(forced=None),
    page(items=[{"score": float("inf")}]),
    page(items={1, 2}),
    page() | {"colour": "red"},
]


def test_a_row_that_no_database_takes_is_put_aside(database, tmp_path):
    config = settings(database, tmp_path)
    registry = CollectorRegistry()
    good = [page(), page()]
    with Recorder(config, registry) as recorder:
        for row in [good[0], *BAD_PAGES, good[1]]:
            recorder.page(row)
    assert stored(config)[0] == {row["request_id"] for row in good}
    assert registry.get_sample_value("taoemb_events_rejected_rows_total", {"table": "pages"}) == len(BAD_PAGES)
    assert all(row["request_id"] in rejected(config) for row in BAD_PAGES)
    assert not segments(config)


def test_a_row_that_the_database_alone_refuses_does_not_hold_up_the_others(postgres, tmp_path):
    config = settings(postgres, tmp_path)
    with EventStore(config):
        pass
    engine = open_engine(postgres, timeout_s=5)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE pages ADD CHECK (query <> 'refused')"))
    engine.dispose()
    rows = [page(query="refused" if place in (3, 17) else "taken") for place in range(40)]
    with Recorder(config, CollectorRegistry()) as recorder:
        for row in rows:
            recorder.page(row)
    assert stored(config)[0] == {row["request_id"] for row in rows if row["query"] == "taken"}
    assert rejected(config).count("\n") == 2


def test_lines_that_are_not_rows_are_put_aside(database, tmp_path):
    config = settings(database, tmp_path)
    spool = Spool(config.spool)
    for line in (b"not json\n", b'["grades", {}]\n', b'["pages", 3]\n', b"\xff\xfe\n"):
        spool.append(line)
    spool.seal()
    with Recorder(config, CollectorRegistry()) as recorder:
        recorder.page(row := page())
    assert stored(config)[0] == {row["request_id"]}
    assert rejected(config).count("\n") == 4


FULL_DISK = """
import resource, signal, sys
from prometheus_client import CollectorRegistry
from taoemb.config import EventsConfig
from taoemb.serving.events.writer import Recorder
from tests.serving.event_rows import page

config = EventsConfig.model_validate_json(sys.argv[1])
recorder = Recorder(config, registry := CollectorRegistry())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # no file takes more than two rows
for _ in range(300):
    row = page()
    recorder.page(row)
    print(row["request_id"])
recorder.close()
print(registry.get_sample_value("taoemb_events_lost_rows_total", {"table": "pages"}) or 0)
"""


def run_on_a_full_disk(config: EventsConfig) -> tuple[list[str], int]:
    command = [sys.executable, "-c", FULL_DISK, config.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    *taken, lost = done.stdout.splitlines()
    return taken, int(float(lost))


def test_a_full_disk_loses_nothing_while_the_database_answers(postgres, tmp_path):
    config = settings(postgres, tmp_path)
    taken, lost = run_on_a_full_disk(config)
    assert lost == 0
    assert stored(config)[0] == set(taken)


def test_a_full_disk_and_no_database_lose_rows_and_count_them(postgres_server, postgres, tmp_path):
    config = settings(postgres, tmp_path, queue=100, timeout_s=1.0)
    postgres_server.stop()
    try:
        taken, lost = run_on_a_full_disk(config)
    finally:
        postgres_server.start()
    Recorder(config, CollectorRegistry()).close()
    kept = stored(config)[0]
    assert kept < set(taken)
    assert lost == len(taken) - len(kept)


def test_a_spool_that_cannot_be_written_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"events\.spool"):
        Recorder(settings(f"sqlite:///{tmp_path}/events.db", tmp_path, spool=Path("/proc/spool")), CollectorRegistry())
