"""What fuzz tests of every room share: how many examples they draw."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

EXAMPLES = 2_000
Fuzz = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make fuzz-inputs` sets it higher."""
    parser.addoption(
        "--fuzz-examples", type=int, default=EXAMPLES, help="Examples that each fuzz test of inputs and answers draws."
    )


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """`fuzz(check, strategy…)` calls `check` with what --fuzz-examples drawings give, and shrinks what fails.

    Tests that use it have `awkward_fuzz` in their names, which is how `make fuzz-inputs` finds them.
    """
    own = settings(
        max_examples=request.config.getoption("--fuzz-examples"),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )

    def run(check: Callable[..., Any], *strategies: Any) -> None:
        own(given(*strategies)(check))()

    return run
