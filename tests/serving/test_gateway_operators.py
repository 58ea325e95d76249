"""Operators' routes with a token of their own: who has it reads them, and the probes never need it."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from taoemb.serving.gateway.arms import EncoderClient
from taoemb.serving.gateway.operators import OperatorRoutes
from taoemb.serving.gateway.search_pool import SearchPool
from taoemb.serving.gateway.traffic_watch import TrafficWatch


def client(tmp_path, token_file):
    def nowhere():
        raise AssertionError("no route here opens the store")

    watch = TrafficWatch(str(tmp_path / "traffic.json"), 1.0, lambda traffic: None)
    routes = OperatorRoutes(watch, EncoderClient(1.0, 1), SearchPool(nowhere, 1, 1.0), CollectorRegistry(), token_file)
    app = FastAPI()
    app.include_router(routes.router())
    return TestClient(app)


@pytest.mark.parametrize(
    ("sent", "status"), [(None, 401), ("Bearer wrong", 401), ("sesame", 401), ("Bearer é", 401), ("Bearer sesame", 200)]
)
def test_metrics_and_traffic_ask_for_the_token(tmp_path, sent, status):
    (tmp_path / "token").write_text("sesame\n")
    http = client(tmp_path, tmp_path / "token")
    headers = {} if sent is None else {"authorization": sent.encode()}
    assert http.get("/metrics", headers=headers).status_code == status
    assert http.get("/traffic", headers=headers).status_code == (503 if status == 200 else 401)  # no traffic here
    assert http.get("/healthz").status_code == 200


def test_a_token_that_can_not_be_read_lets_nobody_in(tmp_path):
    for content in (None, "", "\n"):
        file = tmp_path / "token"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        for headers in ({}, {"authorization": "Bearer "}, {"authorization": ""}):
            assert client(tmp_path, file).get("/metrics", headers=headers).status_code == 401


def test_without_a_setting_they_ask_for_nothing(tmp_path):
    assert client(tmp_path, None).get("/metrics").status_code == 200
