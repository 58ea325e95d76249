"""Anything may be sent to the gateway: it answers 2xx or 4xx as its OpenAPI page says, at once, and does not grow.

`make fuzz` sends 10,000 requests, `make test` some hundred.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from taoemb.serving.traffic import Traffic
from tests.serving.gateway_shop import Gateway, Shop, StubEncoder, running_gateway

TIMEOUT_S = 30.0
GROWTH_MB = 60
ROUTES = ("/search", "/events")
load_all_checks()
_checks = CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)


@pytest.fixture
def gateway(gateway_shop: Shop, gateway_encoders: dict[str, StubEncoder], tmp_path: Path) -> Iterator[Gateway]:
    base, other = gateway_encoders["base"].arm, gateway_encoders["other"].arm
    traffic = Traffic(base, other, 50.0, rollout="fuzz", salt="salt")
    with running_gateway(tmp_path / "gateway", gateway_shop.copy(tmp_path), traffic) as running:
        yield running


def resident_mb(gateway: Gateway) -> float:
    status = Path(f"/proc/{gateway.worker()}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def fuzz(gateway: Gateway, count: int, statuses: Counter[str]) -> None:
    """Send `count` requests: of each route what fits its schema, what does not, and bytes that are anything."""
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    operations = [
        operation for operation in (one.ok() for one in schema.get_all_operations()) if operation.path in ROUTES
    ]
    strategies = [operation.as_strategy(mode) for operation in operations for mode in GenerationMode]
    own = settings(
        max_examples=max(1, count // (len(strategies) + 1)),
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )

    served = gateway.search().json()["request_id"]
    with requests.Session() as session, httpx.Client(timeout=TIMEOUT_S) as http:
        turns = itertools.count()

        def send(case: Case) -> None:
            if case.path == "/events" and next(turns) % 2:
                _name_page(case.body, served)
            reply = case.call(session=session, timeout=TIMEOUT_S)
            statuses[f"{case.method} {case.path} {reply.status_code}"] += 1
            case.validate_response(reply, checks=_checks)

        def send_bytes(route: str, body: bytes, kind: str) -> None:
            reply = http.post(gateway.url + route, content=body, headers={"content-type": kind})
            statuses[f"bytes {route} {reply.status_code}"] += 1
            assert reply.status_code < 500, (route, body, kind, reply.text)

        for strategy in strategies:
            own(given(strategy)(send))()
        kinds = st.sampled_from(["application/json", "text/plain", "application/json; charset=utf-7", "a", ""])
        own(
            given(st.sampled_from(ROUTES), st.binary(max_size=300) | st.from_regex(rb'[\[{"\\:,]{1,99}'), kinds)(
                send_bytes
            )
        )()


def _name_page(events: object, request_id: str) -> None:
    """Let events of any form be about a page that was served, as far as they name one."""
    for event in [events, *(events.get("events") or [] if isinstance(events, dict) else [])]:
        for one in event if isinstance(event, list) else [event]:
            if isinstance(one, dict) and isinstance(one.get("request_id"), str):
                one["request_id"] = request_id


@pytest.mark.slow
@pytest.mark.timeout(7200)  # 10,000 requests
def test_no_5xx_no_hang_no_growth(gateway: Gateway, fuzz_requests: int) -> None:
    statuses: Counter[str] = Counter()
    warm = max(200, fuzz_requests // 10)  # caches fill
    fuzz(gateway, warm, statuses)
    before = resident_mb(gateway)
    fuzz(gateway, fuzz_requests - warm, statuses)
    after, worker = resident_mb(gateway), gateway.worker()
    print(
        f"{statuses.total():,} requests, resident {before:.0f} MB, then {after:.0f} MB",
        *sorted(statuses.items()),
        sep="\n",
    )
    assert after - before < GROWTH_MB
    assert statuses["GET /search 200"] > 0
    assert statuses["POST /search 200"] > 0
    assert statuses["POST /events 202"] > 0
    assert statuses["POST /events 403"] > 0
    assert gateway.search().status_code == 200
    assert gateway.worker() == worker
    assert "Traceback" not in gateway.log.read_text()
