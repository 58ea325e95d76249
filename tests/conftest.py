"""What tests of every room share: how many examples a fuzz test draws, and that Ctrl-C is obeyed."""

import signal
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


def pytest_configure() -> None:
    """A job that a shell runs in the background ignores Ctrl-C, and so would all that its tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
