"""The losses against hand-made numbers and properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taoemb.training.losses import (
    advantages,
    clipped_policy_loss,
    group_kl,
    group_log_policy,
    info_nce,
    mean_pairwise_cosine,
)

TAU = 0.05


def scores(q, k, seed):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (q, k)).astype(np.float32))


def test_readers_example_of_the_paper():
    # paper.md section 3: rewards .99/.99/.44/.29 → advantages ≈ +.99/+.99/−.75/−1.23
    got, _, kept = advantages(torch.tensor([[0.99, 0.99, 0.44, 0.29]]), 1e-4, 2.0)
    assert got[0].tolist() == pytest.approx([0.99, 0.99, -0.75, -1.23], abs=0.02)
    assert kept.all()


@given(st.integers(0, 10**6), st.integers(2, 12))
def test_advantages_have_mean_zero_and_unit_population_std(seed, k):
    rewards = torch.from_numpy(np.random.default_rng(seed).uniform(0, 1, (3, k)).astype(np.float32))
    got, valid, kept = advantages(rewards, 1e-4, 1e9)
    assert valid.all()
    assert kept.all()
    assert got.mean(dim=1).abs().max() < 1e-4
    assert (got.std(dim=1, correction=0) - 1).abs().max() < 1e-3


def test_unanswered_items_do_not_touch_their_group():
    answered = torch.tensor([[0.9, 0.1, 0.5]])
    with_gap = torch.tensor([[0.9, float("nan"), 0.1, 0.5]])
    full, _, _ = advantages(answered, 1e-4, 2.0)
    gapped, valid, _ = advantages(with_gap, 1e-4, 2.0)
    assert valid.tolist() == [[True, False, True, True]]
    assert torch.equal(gapped[:, [0, 2, 3]], full)
    assert gapped[0, 1] == 0


def test_groups_without_variance_or_answers_are_dropped():
    nan = float("nan")
    rewards = torch.tensor([[0.5, 0.5, 0.5], [nan, nan, nan], [nan, 0.7, nan], [0.1, 0.9, nan]])
    got, _, kept = advantages(rewards, 1e-4, 2.0)
    assert kept.tolist() == [False, False, False, True]
    assert (got[:3] == 0).all()


def test_advantages_are_clamped():
    rewards = torch.tensor([[1.0] + [0.0] * 31])
    assert advantages(rewards, 1e-4, 2.0)[0].max() == 2.0


def test_on_policy_gradient_is_the_advantage_over_k_tau():
    # paper.md section 3: at ρ = 1 and mean-zero Â the normaliser cancels: −∂J/∂s_i = −Â_i / (K τ)
    old = scores(4, 6, 1)
    s = old.clone().requires_grad_()
    a, valid, _ = advantages(scores(4, 6, 2), 1e-4, 1e9)
    clipped_policy_loss(s, old, a, valid, TAU, 0.2).loss_Q.sum().backward()
    assert torch.allclose(s.grad, -a / (6 * TAU), atol=1e-4)


def test_clipping_stops_the_gradient_once_the_ratio_has_moved_far_enough():
    old = torch.zeros(1, 2)
    a = torch.tensor([[1.0, -1.0]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    moved = torch.tensor([[0.05, -0.05]], requires_grad=True)  # ρ = 1.76 and 0.24 at τ = .05
    policy = clipped_policy_loss(moved, old, a, valid, TAU, 0.2)
    policy.loss_Q.sum().backward()
    assert policy.clipped_Q.item() == 1.0
    assert moved.grad.abs().max() == 0
    back = torch.tensor([[-0.05, 0.05]], requires_grad=True)  # moved the wrong way: never clipped
    wrong = clipped_policy_loss(back, old, a, valid, TAU, 0.2)
    wrong.loss_Q.sum().backward()
    assert wrong.clipped_Q.item() == 0.0
    assert back.grad.abs().min() > 0


def test_policy_ignores_masked_items():
    s, valid = scores(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)
    valid[:, 2] = False
    inside = group_log_policy(s, valid, TAU)[:, [0, 1, 3, 4]]
    assert torch.allclose(inside, torch.log_softmax(s[:, [0, 1, 3, 4]] / TAU, dim=1), atol=1e-5)


@given(st.integers(0, 10**6))
def test_kl_is_positive_and_zero_for_equal_policies(seed):
    a, b = scores(3, 8, seed), scores(3, 8, seed + 1)
    every = torch.ones(3, 8, dtype=torch.bool)
    assert (group_kl(a, b, every, TAU) >= -1e-6).all()
    assert group_kl(a, a, every, TAU).abs().max() < 1e-6
    assert group_kl(a, a + 0.3, every, TAU).abs().max() < 1e-4  # a uniform shift is invisible, hence the anchor


def test_info_nce_is_the_papers_formula():
    s = torch.tensor([[0.9, 0.2, 0.5, 0.8]])
    negatives = torch.tensor([[True, True, False, True]])  # column 2 is a known positive; column 0 is the positive
    expected = -math.log(math.exp(0.9 / TAU) / (math.exp(0.9 / TAU) + math.exp(0.2 / TAU) + math.exp(0.8 / TAU)))
    assert info_nce(s, torch.tensor([0]), negatives, TAU).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_keeps_the_positive_even_if_it_is_masked_as_a_negative():
    s = torch.tensor([[0.9, 0.2]])
    assert torch.isfinite(info_nce(s, torch.tensor([0]), torch.tensor([[False, True]]), TAU)).all()


def test_mean_pairwise_cosine_sees_collapse():
    point = torch.nn.functional.normalize(torch.ones(5, 8), dim=1)
    assert mean_pairwise_cosine(point) == pytest.approx(1.0)
    assert mean_pairwise_cosine(torch.eye(8)) == pytest.approx(0.0)
