"""What tests of serving share: databases, and a tiny shop with an encoder for each of its releases."""

from collections.abc import Iterator

import pytest

from tests.serving.gateway_shop import Shop, StubEncoder, make_shop
from tests.serving.postgres import database, postgres, postgres_server

__all__ = ["database", "gateway_encoders", "gateway_shop", "postgres", "postgres_server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known when a file of this folder is named on the command line, as `make fuzz` does."""
    parser.addoption("--fuzz-requests", type=int, default=500, help="Requests sent to the gateway by its fuzz test.")


@pytest.fixture
def fuzz_requests(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--fuzz-requests", default=500)


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
