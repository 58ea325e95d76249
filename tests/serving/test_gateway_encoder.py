"""The gateway in front of real encoder servers: the whole path from a query to items, and a promotion between them."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from taoemb.encoder.release import Release
from taoemb.serving.encoder.process import running_encoder
from taoemb.serving.traffic import Arm, Traffic
from tests.serving.gateway_shop import Load, Shop, running_gateway


@pytest.mark.slow
def test_a_promotion_between_real_encoders_under_load(gateway_shop: Shop, tmp_path: Path) -> None:
    with ExitStack() as lasting, ExitStack() as control_only:

        def arm(release: Release, stack: ExitStack) -> Arm:
            url = stack.enter_context(running_encoder(release.path, settings=["encoder_server.threads=1"]))
            return Arm(release.manifest.digest, (url,))

        control = arm(gateway_shop.releases.base, control_only)
        candidate = arm(gateway_shop.releases.other, lasting)
        settings = ("gateway.patience_s=60", "gateway.encoder_timeout_s=20")
        traffic = Traffic(control, candidate, 50.0, "ab", "real", "salt")
        with running_gateway(tmp_path / "gateway", gateway_shop.copy(tmp_path), traffic, *settings) as gateway:
            with Load(gateway.url, gateway_shop.collections, clients=2) as load:
                arms = {(page["assigned"], page["served"]) for page in load.more(30)}
                assert arms == {("control", "control"), ("candidate", "candidate")}
                gateway.obey(Traffic(candidate, salt="promoted"))
                control_only.close()
                assert {page["release"] for page in load.more(10)} == {candidate.release}
            assert load.failures == []
            assert gateway.metric("taoemb_gateway_digest_mismatches_total") == 0
