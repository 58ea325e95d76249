"""One GRPO update: from judged groups to gradients (paper section 3)."""

import numpy as np
import torch
from torch import Tensor

from taoemb.config import GRPOConfig
from taoemb.training.context import Batches, Context
from taoemb.training.distributed import Ranks, mean_over_ranks, sum_over_ranks
from taoemb.training.engine import Engine
from taoemb.training.groups import Group, group_scores
from taoemb.training.losses import advantages, clipped_policy_loss, group_kl, info_nce, mean_pairwise_cosine
from taoemb.training.rewarding import Scored
from taoemb.training.sampling import Positives
from taoemb.training.timing import Stopwatch
from taoemb.training.towers import Towers


class PolicyUpdate:
    """Trains the towers on judged groups."""

    def __init__(
        self,
        context: Context,
        config: GRPOConfig,
        engine: Engine,
        towers: Towers,
        batches: Batches,
        positives: Positives,
    ) -> None:
        self._ranks, self._seed, self._config = context.ranks, context.seed, config
        self._engine, self._towers, self._batches = engine, towers, batches
        self._positives, self._false = positives, context.false_negatives(positives)

    def train(self, group: Group, scored: Scored, watch: Stopwatch) -> dict[str, float]:
        """`config.updates` optimiser steps on the groups of one step; returns what to log, averaged over ranks."""
        config, parts = self._config, self._batches.parts
        self._towers.begin(group.step)
        rewards_QK = torch.from_numpy(scored.rewards.total_QK).to(self._ranks.device)
        advantages_QK, valid_QK, kept_Q = advantages(rewards_QK, config.min_std, config.max_advantage)
        kept = sum_over_ranks({"kept": float(kept_Q.sum())}, self._ranks.device)["kept"]
        positives_M = self._positives.draw(self._batches.all_ranks(group.step), self._seed, group.step)
        old_QK = group.old_scores_QK
        metrics: dict[str, float] = {"zero_variance_share": 1 - kept / config.queries}
        for update in range(config.updates):
            losses, scores = [], []
            for part, cut in enumerate(self._batches.cuts()):
                old = None if old_QK is None else old_QK[cut]
                loss, scores_QK, queries_QD = self._losses(
                    group, cut, part, positives_M, (old, advantages_QK[cut], valid_QK[cut]), kept, watch
                )
                with watch("backward"):
                    self._engine.backward(loss["loss"])
                losses.append({name: float(value.detach()) for name, value in loss.items()})
                scores.append(scores_QK.detach())
            with watch("optimiser"):
                metrics |= self._engine.step(group.step * config.updates + update)
            old_QK = torch.cat(scores) if old_QK is None else old_QK
            means = {name: sum(part[name] for part in losses) / parts for name in losses[0]}
            metrics |= mean_over_ranks(means, self._ranks)
        return metrics | {"cosine_queries": mean_pairwise_cosine(queries_QD.detach())}

    def _losses(
        self,
        group: Group,
        cut: slice,
        part: int,
        positives_M: np.ndarray,
        policy: tuple[Tensor | None, Tensor, Tensor],
        kept: float,
        watch: Stopwatch,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Loss and its parts for one micro-batch, its scores (Q, K) and query vectors (Q, D)."""
        config = self._config
        micro_M = self._batches.micro(positives_M, part)
        with watch("forward"):
            queries_QD = self._towers.queries(group.query_rows[cut])
            items = self._towers.candidates(group.rows_QK[cut], np.maximum(micro_M, 0))  # none: a stand-in, masked
            scores_QK = group_scores(queries_QD, items.groups_QKD)
        with watch("loss"):
            old_QK, advantages_QK, valid_QK = policy
            old_QK = scores_QK.detach() if old_QK is None else old_QK  # on-policy: the ratio is exactly 1
            clipped = clipped_policy_loss(scores_QK, old_QK, advantages_QK, valid_QK, config.tau, config.clip)
            # DeepSpeed averages over ranks and micro-batches: scaled so that the result is the mean over kept groups.
            scale = self._ranks.world_size * self._batches.parts / max(kept, 1.0)
            kl = group_kl(scores_QK, group.reference_scores_QK[cut], valid_QK, config.tau).mean()
            anchor = self._anchor(queries_QD, items.positives_MD, group.query_rows[cut], micro_M)
            loss = clipped.loss_Q.sum() * scale + config.kl * kl + config.anchor * anchor
        parts = {"loss": loss, "kl": kl, "anchor": anchor, "clip_share": clipped.clipped_Q.mean()}
        return parts, scores_QK, queries_QD

    def _anchor(
        self, queries_QD: Tensor, positives_MD: Tensor, query_rows: np.ndarray, positives_M: np.ndarray
    ) -> Tensor:
        """InfoNCE on known pairs against in-batch positives: it sees the uniform shift that the KL cannot.

        A query without a known positive (−1 in `positives_M`) has no share in it.
        """
        known_M = positives_M >= 0
        if self._config.anchor == 0 or not known_M.any():
            return queries_QD.new_zeros(())
        n, device = len(queries_QD), queries_QD.device
        negative_QM = ~self._false.mask(query_rows, np.maximum(positives_M, 0)) & known_M
        column_Q = torch.arange(n, device=device) + self._ranks.rank * n
        scores_QM = queries_QD @ positives_MD.T
        loss_Q = info_nce(scores_QM, column_Q, torch.from_numpy(negative_QM).to(device), self._config.tau)
        own_Q = torch.from_numpy(self._ranks.share(known_M)).to(device)
        return (loss_Q * own_Q).sum() * self._ranks.world_size / float(known_M.sum())


def reward_metrics(scored: Scored, ranks: Ranks) -> dict[str, float]:
    """Means of the rewards over answered pairs of all ranks, and what the judge did (all ranks call).

    `reward_std` and `relevance_std` are means of what tells items apart: the population std within a group. Without any
    answer there is no mean, and it is left out.
    """
    rewards = scored.rewards
    answered_QK = ~np.isnan(rewards.relevance_QK)
    parts = {
        "reward": rewards.total_QK,
        "relevance": rewards.relevance_QK,
        "quality": rewards.quality_QK,
        "exclusivity": rewards.exclusivity_QK,
    }
    stds = {f"{name}_std": _stds(parts[name], answered_QK) for name in ("reward", "relevance")}
    sums = {name: float(values[answered_QK].sum()) for name, values in parts.items()}
    sums |= {name: float(values.sum()) for name, values in stds.items()}
    counts = {"answered": float(answered_QK.sum()), "pairs": float(answered_QK.size)}
    sums["label_mass"] = scored.label_mass
    counts |= {"cached": float(scored.cached), "asked": float(scored.asked), "groups": float(len(stds["reward_std"]))}
    total = sum_over_ranks(sums | counts, ranks.device)
    means = {name: total[name] / total["answered"] for name in (*parts, "label_mass") if total["answered"]}
    means |= {name: total[name] / total["groups"] for name in stds if total["groups"]}
    return means | {
        "unanswered_share": 1 - total["answered"] / total["pairs"],
        "judge_hit_rate": total["cached"] / total["pairs"],
        "judge_asked": total["asked"],
        "judge_s": scored.judge_s,
    }


def _stds(values_QK: np.ndarray, answered_QK: np.ndarray) -> np.ndarray:
    """The population std of the answered items of each group that has at least two of them."""
    kept = answered_QK.sum(axis=1) >= 2
    return np.nanstd(np.where(answered_QK, values_QK, np.nan)[kept].astype(np.float64), axis=1)
