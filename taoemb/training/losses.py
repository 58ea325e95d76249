"""The losses, as plain functions of score tensors.

Shapes: Q queries on this rank, M candidates, K group size. All arithmetic in float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MASKED = torch.finfo(torch.float32).min


def info_nce(scores_QM: Tensor, positive_Q: Tensor, negative_QM: Tensor, tau: float) -> Tensor:
    """−log( e^{s⁺/τ} / (e^{s⁺/τ} + Σ_negatives e^{s/τ}) ) per query (paper section 2).

    `positive_Q` is the column of each query's positive; `negative_QM` is True where a candidate counts as a negative.
    Returns (Q,).
    """
    keep_QM = negative_QM.scatter(1, positive_Q[:, None], True)
    logits_QM = (scores_QM / tau).masked_fill(~keep_QM, MASKED)
    return torch.nn.functional.cross_entropy(logits_QM, positive_Q, reduction="none")


def group_log_policy(scores_QK: Tensor, valid_QK: Tensor, tau: float) -> Tensor:
    """log π(d|q) = log softmax(s/τ) over the valid items of the group (paper section 3). Shape (Q, K)."""
    return torch.log_softmax((scores_QK / tau).masked_fill(~valid_QK, MASKED), dim=1)


def advantages(rewards_QK: Tensor, min_std: float, max_advantage: float) -> tuple[Tensor, Tensor, Tensor]:
    """Â = (r − mean(r)) / std(r) within each group, population std (paper section 3), at most `max_advantage`.

    A group is scaled as a whole, by min(1, max_advantage / max|Â|): it still sums to 0, so that its gradient is
    Â / (K τ) and moves no item that the rewards say nothing of. `rewards_QK` is nan where the judge did not answer;
    such items are outside their group. Groups whose std is at most `min_std`, or with fewer than two answers, teach
    nothing and are dropped.
    Returns (advantages_QK with 0 at masked places, valid_QK, kept_Q).
    """
    valid_QK = ~torch.isnan(rewards_QK)
    count_Q1 = valid_QK.sum(dim=1, keepdim=True)
    rewards_QK = rewards_QK.masked_fill(~valid_QK, 0.0)
    mean_Q1 = rewards_QK.sum(dim=1, keepdim=True) / count_Q1.clamp(min=1)
    centred_QK = (rewards_QK - mean_Q1).masked_fill(~valid_QK, 0.0)
    std_Q1 = (centred_QK.square().sum(dim=1, keepdim=True) / count_Q1.clamp(min=1)).sqrt()
    kept_Q = (std_Q1 > min_std).squeeze(1) & (count_Q1.squeeze(1) >= 2)
    advantages_QK = centred_QK / std_Q1.clamp(min=1e-12)
    largest_Q1 = advantages_QK.abs().amax(dim=1, keepdim=True)
    advantages_QK = advantages_QK * (max_advantage / largest_Q1.clamp(min=max_advantage))
    return advantages_QK.masked_fill(~kept_Q[:, None], 0.0), valid_QK, kept_Q


@dataclass(frozen=True)
class PolicyLoss:
    """The clipped objective of each group (Q,) and what it did; dropped groups are 0."""

    loss_Q: Tensor
    clipped_Q: Tensor  # share of a group's items where clipping took the gradient away


def clipped_policy_loss(
    scores_QK: Tensor, old_scores_QK: Tensor, advantages_QK: Tensor, valid_QK: Tensor, tau: float, clip: float
) -> PolicyLoss:
    """−1/K Σ min(ρ Â, clip(ρ, 1−ε, 1+ε) Â), ρ = π_θ/π_old (paper section 3), without its KL term."""
    log_new_QK = group_log_policy(scores_QK, valid_QK, tau)
    log_old_QK = group_log_policy(old_scores_QK, valid_QK, tau)
    ratio_QK = torch.exp((log_new_QK - log_old_QK).masked_fill(~valid_QK, 0.0))
    free_QK = ratio_QK * advantages_QK
    bound_QK = ratio_QK.clamp(1 - clip, 1 + clip) * advantages_QK
    count_Q = valid_QK.sum(dim=1).clamp(min=1)
    loss_Q = -(torch.minimum(free_QK, bound_QK) * valid_QK).sum(dim=1) / count_Q
    clipped_Q = ((bound_QK < free_QK) & valid_QK).sum(dim=1) / count_Q
    return PolicyLoss(loss_Q, clipped_Q)


def group_kl(scores_QK: Tensor, reference_scores_QK: Tensor, valid_QK: Tensor, tau: float) -> Tensor:
    """KL(π_θ ‖ π_ref) over the valid items of the group, computed exactly; 0 with fewer than two. Shape (Q,)."""
    log_new_QK = group_log_policy(scores_QK, valid_QK, tau)
    log_reference_QK = group_log_policy(reference_scores_QK, valid_QK, tau)
    difference_QK = (log_new_QK - log_reference_QK).masked_fill(~valid_QK, 0.0)
    return (log_new_QK.exp() * difference_QK).sum(dim=1)


def mean_pairwise_cosine(vectors_ND: Tensor) -> float:
    """Mean cosine over all pairs of unit vectors: 1 means that the space has collapsed to a point."""
    n = len(vectors_ND)
    if n < 2:
        return 0.0
    total = vectors_ND.sum(dim=0).square().sum() - vectors_ND.square().sum()
    return float(total / (n * (n - 1)))
