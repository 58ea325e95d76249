"""r = f_rel + g_quality + h_excl, and the gate that keeps the sum honest (paper section 4).

Exclusivity is highest for an irrelevant item that shares no term with the query, so a plain sum teaches irrelevance
(docs/decisions.md). The default `gated` form pays quality and exclusivity to relevant items only.
"""

from dataclasses import dataclass

import numpy as np

from taoemb.config import RewardConfig


@dataclass(frozen=True)
class Rewards:
    """The reward of each candidate and its parts, all (Q, K) float32; nan where the judge did not answer."""

    total_QK: np.ndarray
    relevance_QK: np.ndarray
    quality_QK: np.ndarray
    exclusivity_QK: np.ndarray


def combine(
    relevance_QK: np.ndarray, quality_QK: np.ndarray, exclusivity_QK: np.ndarray, config: RewardConfig
) -> Rewards:
    """Weigh and add the parts; an unanswered relevance (nan) leaves the total unanswered too."""
    extras_QK = config.quality * quality_QK + config.exclusivity * exclusivity_QK
    if config.combine == "gated":
        extras_QK = extras_QK * (np.nan_to_num(relevance_QK) >= config.gate)
    total_QK = config.relevance * relevance_QK + extras_QK
    return Rewards(total_QK.astype(np.float32), relevance_QK, quality_QK, exclusivity_QK)
