"""What tests of serving share: databases, and a tiny shop with an encoder for each of its releases."""

from collections.abc import Iterator

import pytest

from tests.serving.gateway_shop import Shop, StubEncoder, make_shop
from tests.serving.postgres import database, postgres, postgres_server

__all__ = ["database", "gateway_encoders", "gateway_shop", "postgres", "postgres_server"]


@pytest.fixture(scope="session")
def gateway_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def gateway_encoders(gateway_shop: Shop) -> Iterator[dict[str, StubEncoder]]:
    """An encoder for each release, by its name in the shop."""
    encoders = {name: StubEncoder(release) for name, release in vars(gateway_shop.releases).items()}
    for encoder in encoders.values():
        encoder.server.up()
    yield encoders
    for encoder in encoders.values():
        encoder.server.down()
