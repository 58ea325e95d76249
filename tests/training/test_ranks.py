"""The same settings give the same curve on any number of ranks, at any ZeRO stage."""

import pytest

TOLERANCE = 2e-3
WATCHED = {
    "sft": ("loss", "grad_norm", "cosine_items"),
    "hard_negatives": ("loss", "grad_norm"),
    "live_infonce": ("loss", "grad_norm"),
    "grpo": ("loss", "grad_norm", "kl", "anchor", "reward", "relevance", "zero_variance_share"),
}


def curve(records, objective):
    return [[record[name] for name in WATCHED[objective]] for record in records]


@pytest.fixture(scope="module")
def alone(train, release, tmp_path_factory):
    """Curves of one rank without sharding, by (objective, url-free settings)."""
    known = {}

    def alone(objective, judge, *settings):
        if (objective, settings) not in known:
            out = tmp_path_factory.mktemp("alone")
            records = train(objective, out, f"judge.url={judge.url}", *settings, release=release)
            known[objective, settings] = curve(records, objective)
        return known[objective, settings]

    return alone


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_grpo_on_two_ranks_at_every_zero_stage(stage, alone, train, release, judge, tmp_path):
    out = tmp_path / "run"
    two = train("grpo", out, f"judge.url={judge.url}", f"engine.zero_stage={stage}", release=release, ranks=2)
    assert curve(two, "grpo") == [pytest.approx(step, abs=TOLERANCE) for step in alone("grpo", judge)]


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("grpo", ("grpo.towers=both", "grpo.refresh=2", "engine.zero_stage=2")),
        ("grpo", ("grpo.towers=both", "grpo.pool=batch", "grpo.staleness=0", "engine.zero_stage=1")),
        ("grpo", ("grpo.towers=alternating", "grpo.refresh=2", "engine.zero_stage=1")),
        ("sft", ("engine.zero_stage=1",)),
        ("hard_negatives", ("engine.zero_stage=2",)),
        ("live_infonce", ("live_infonce.towers=both", "live_infonce.refresh=2")),
    ],
)
def test_every_objective_on_two_ranks(objective, settings, alone, train, release, judge, tmp_path):
    two = train(objective, tmp_path / "run", f"judge.url={judge.url}", *settings, release=release, ranks=2)
    assert curve(two, objective) == [pytest.approx(step, abs=TOLERANCE) for step in alone(objective, judge, *settings)]


def test_gradient_accumulation_leaves_the_grpo_objective_as_it_is(alone, train, release, judge, tmp_path):
    settings = ("grpo.anchor=0", "grpo.staleness=0")
    parts = train(
        "grpo", tmp_path / "run", f"judge.url={judge.url}", *settings, "engine.gradient_accumulation=2", release=release
    )
    whole = alone("grpo", judge, *settings)
    for got, expected in zip(curve(parts, "grpo"), whole, strict=True):
        assert got[1:] == pytest.approx(expected[1:], abs=TOLERANCE)  # all but how the printed loss is averaged
