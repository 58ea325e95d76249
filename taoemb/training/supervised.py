"""What objectives without a judge have in common: they learn from known pairs and keep nothing beside the engine."""

from collections.abc import Mapping
from typing import Any

from taoemb.config import LiveInfoNCEConfig, SFTConfig


class Supervised:
    """Base of SFT and of the baselines; the data of a step follows from the seed alone."""

    steps: int
    _config: SFTConfig | LiveInfoNCEConfig

    def state(self) -> dict[str, Any]:
        """Nothing: what a step needs follows from the seed."""
        return {}

    def load_state(self, state: Mapping[str, Any], step: int) -> None:
        """Nothing to restore."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says of this training."""
        return {"queries_seen": self.steps * self._config.queries}

    def reward_judges(self) -> list[str]:
        """No judge gave reward."""
        return []

    def judges(self) -> dict[str, str]:
        """No judge is asked."""
        return {}

    def close(self) -> None:
        """Nothing is open."""
