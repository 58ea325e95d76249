"""The pipeline's rollout step on this machine: real encoders and gateway in a folder, found again when repeated."""

import contextlib
import threading
from pathlib import Path

import pytest
import yaml

from taoemb.jobs.steps import settings_from
from taoemb.rollout.local.start import open_local
from taoemb.rollout.simulate.shoppers import Demand, Shoppers
from taoemb.rollout.step import Ended, roll_out
from tests.serving.gateway_shop import QUERIES, make_shop, wait_until

PLAN = """
steps: [{percent: 50, min_units: 30}]
metric: error_rate
goal: non-inferiority
margin: 0.4
guardrails: []
look_every_s: 0.5
"""


@pytest.mark.slow
def test_the_step_promotes_and_repeated_says_so_again(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "shop")
    folder, said, ended = tmp_path / "rollout", list[str](), list[Ended]()
    tree = {
        "milvus": {"uri": str(shop.copy(tmp_path)), "index": "FLAT"},
        "encoder_server": {"threads": 1},
        "gateway": {"poll_s": 0.1, "patience_s": 60},
    }

    def step() -> None:
        release, control = shop.releases.query_only.path, str(shop.releases.base.path)
        config = settings_from(yaml.safe_dump(tree))
        ended.append(roll_out(PLAN, str(folder), release, config, control=control, say=said.append))

    work = threading.Thread(target=step)
    work.start()
    try:
        wait_until(lambda: any("send searches to http" in line for line in said) or not work.is_alive())
        url = next(line for line in said if "send searches" in line).rsplit(" ", 1)[-1]
        demand = Demand(
            QUERIES, shoppers=1_000_000, rate=30, collections=shop.collections, token_file=folder / "tester-token"
        )
        with Shoppers(url, demand) as shoppers:
            work.join(240)
        assert [one.phase for one in ended] == ["Promoted"], said
        shoppers.log.check()
        step()
        assert ended[1] == ended[0]
    finally:
        with contextlib.suppress(OSError):
            open_local(folder).backend.stop()
        work.join(60)
