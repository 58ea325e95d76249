"""A run's numbers as Prometheus scrapes them."""

import socket

import httpx
import pytest

from taoemb.config import EngineConfig
from taoemb.errors import InputError
from taoemb.training.tracking import Exposed, open_trackers


def test_the_last_record_is_shown_until_the_run_ends():
    exposed = Exposed("127.0.0.1", 0)
    url = f"http://127.0.0.1:{exposed.port}/metrics"
    exposed.record(1, {"loss": 2.0, "cosine_queries": 0.5})
    exposed.record(2, {"cosine_queries": 0.95})
    shown = httpx.get(url, trust_env=False).text.splitlines()
    assert 'taoemb_training_metric{name="cosine_queries"} 0.95' in shown
    assert "taoemb_training_step 2.0" in shown
    exposed.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = EngineConfig(trackers=("prometheus",), metrics_port=taken.getsockname()[1])
        with pytest.raises(InputError, match=r"engine\.metrics_port"), open_trackers(tmp_path, config, 0, main=True):
            pass


def test_only_the_main_rank_listens(tmp_path):
    config = EngineConfig(trackers=("prometheus",), metrics_port=0)
    with open_trackers(tmp_path, config, 0, main=False) as trackers:
        trackers.record(1, {"loss": 1.0})
