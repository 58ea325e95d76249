"""Groups with gaps: what the judge did not answer moves nothing, and what it did answer pushes nothing else."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taoemb.config import GRPOConfig
from taoemb.training.losses import advantages, clipped_policy_loss, group_kl

TAU, NAN = 0.05, float("nan")
DEFAULT = GRPOConfig()


@st.composite
def groups(draw):
    """Rewards (Q, K) with gaps, mostly alike as those of a strict judge are, and the scores of two policies."""
    q, k = draw(st.integers(1, 4)), draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = np.array([0.0, 0.0, 0.0, 0.0, 1 / 3, 2 / 3, 1.0, NAN])
    rewards_QK = torch.from_numpy(rng.choice(levels, (q, k)).astype(np.float32))
    new_QK, reference_QK = (torch.from_numpy(rng.uniform(-1, 1, (q, k)).astype(np.float32)) for _ in range(2))
    return rewards_QK, new_QK, reference_QK


@given(groups())
def test_advantages_sum_to_zero_under_the_default_limit(given_groups):
    rewards_QK, *_ = given_groups
    got_QK, valid_QK, kept_Q = advantages(rewards_QK, DEFAULT.min_std, DEFAULT.max_advantage)
    assert got_QK.sum(dim=1).abs().max() < 1e-4
    assert got_QK.abs().max() <= DEFAULT.max_advantage + 1e-5
    assert (got_QK[~valid_QK] == 0).all()
    order_QK = rewards_QK.nan_to_num(0.5)
    for group, reward, valid, kept in zip(got_QK, order_QK, valid_QK, kept_Q, strict=True):
        if kept:  # a better reward is a greater advantage, equal rewards are equal ones
            levels = [group[valid & (reward == level)] for level in reward[valid].unique()]
            assert all((level == level[0]).all() for level in levels)
            assert all(a[0] < b[0] for a, b in pairwise(levels))


@given(groups())
def test_the_on_policy_gradient_is_the_advantage_over_k_tau_under_the_default_limit(given_groups):
    # paper.md section 3: only of advantages that sum to 0 does the softmax's normaliser cancel
    rewards_QK, old_QK, _ = given_groups
    a_QK, valid_QK, _ = advantages(rewards_QK, DEFAULT.min_std, DEFAULT.max_advantage)
    s_QK = old_QK.clone().requires_grad_()
    clipped_policy_loss(s_QK, old_QK, a_QK, valid_QK, TAU, DEFAULT.clip).loss_Q.sum().backward()
    count_Q1 = valid_QK.sum(dim=1, keepdim=True).clamp(min=1)
    assert torch.allclose(s_QK.grad, -a_QK / (count_Q1 * TAU), atol=2e-4)


def test_one_relevant_item_among_many_pushes_irrelevant_ones_alike():
    rewards = torch.tensor([[1.0] + [0.0] * 31])
    got, _, _ = advantages(rewards, DEFAULT.min_std, DEFAULT.max_advantage)
    assert got[0, 0] == 2.0
    assert got[0, 1:].tolist() == pytest.approx([-2.0 / 31] * 31)


@given(groups(), st.integers(0, 2**32))
def test_gaps_move_neither_baseline_nor_gradient(given_groups, seed):
    """A group with gaps trains as the group without those items: advantages, policy gradient and KL alike."""
    rewards_QK, new_QK, reference_QK = (tensor[:1] for tensor in given_groups)
    valid = ~torch.isnan(rewards_QK[0])

    def gradient(rewards, new, reference):
        a, answered, _ = advantages(rewards, DEFAULT.min_std, DEFAULT.max_advantage)
        s = new.clone().requires_grad_()
        kl_Q = group_kl(s, reference, answered, TAU)
        policy = clipped_policy_loss(s, reference, a, answered, TAU, DEFAULT.clip)
        (policy.loss_Q.sum() + kl_Q.sum()).backward()
        return a, kl_Q.detach(), s.grad

    a, kl, grad = gradient(rewards_QK, new_QK, reference_QK)
    assert torch.isfinite(grad).all()
    assert (grad[:, ~valid] == 0).all()
    if valid.any():
        a_alone, kl_alone, grad_alone = gradient(rewards_QK[:, valid], new_QK[:, valid], reference_QK[:, valid])
        assert torch.allclose(a[:, valid], a_alone, atol=1e-5)
        assert torch.allclose(kl, kl_alone, atol=1e-4)
        assert torch.allclose(grad[:, valid], grad_alone, atol=1e-3, rtol=1e-3)


def test_two_masked_pairs_leave_the_baseline_of_the_others():
    whole, _, _ = advantages(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), 1e-4, 2.0)
    gapped, valid, kept = advantages(torch.tensor([[1.0, NAN, 1.0, 0.0, NAN, 0.0]]), 1e-4, 2.0)
    assert whole.tolist() == [[1, 1, -1, -1]]
    assert gapped.tolist() == [[1, 0, 1, -1, 0, -1]]
    assert valid.tolist() == [[True, False, True, True, False, True]]
    assert kept.all()


@pytest.mark.parametrize("answered", [0, 1])
def test_kl_of_a_group_without_two_answers_is_zero_and_pulls_nowhere(answered):
    valid = torch.zeros(2, 5, dtype=torch.bool)
    valid[0, :answered] = True
    valid[1] = True  # the group beside it goes on as ever
    rng = np.random.default_rng(3)
    scores, reference = (torch.from_numpy(rng.uniform(-1, 1, (2, 5)).astype(np.float32)) for _ in range(2))
    scores.requires_grad_()
    kl_Q = group_kl(scores, reference, valid, TAU)
    kl_Q.sum().backward()
    assert kl_Q[0] == 0
    assert kl_Q[1] > 0
    assert (scores.grad[0] == 0).all()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[1].abs().max() > 0


def test_kl_sees_no_movement_of_an_unanswered_item():
    valid = torch.tensor([[True, True, False, True]])
    reference = torch.tensor([[0.5, 0.4, 0.3, 0.2]])
    moved = torch.tensor([[0.5, 0.4, 0.9, 0.2]])
    assert group_kl(moved, reference, valid, TAU).item() == pytest.approx(0, abs=1e-6)
    assert group_kl(moved, reference, torch.ones_like(valid), TAU).item() > 1
