"""Queries without a known pair: every objective trains on what it can use, or says in one line what it needs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taoemb.errors import InputError
from tests.training.shop import write_shop

PAIRED = ("q0", "q5", "q11")


def shop_with_pairs_of(folder: Path, queries: tuple[str, ...]) -> Path:
    """The shop, whose 40 queries keep their pairs only when they are named."""
    write_shop(folder)
    pairs = pq.read_table(folder / "pairs.parquet")
    pq.write_table(pairs.filter(pc.is_in(pairs["query_id"], pa.array(queries, pa.string()))), folder / "pairs.parquet")
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return shop_with_pairs_of(tmp_path_factory.mktemp("few"), PAIRED)


@pytest.fixture(scope="module")
def none(tmp_path_factory):
    return shop_with_pairs_of(tmp_path_factory.mktemp("none"), ())


GRPO = [
    ("grpo.towers=query",),
    ("grpo.towers=both",),
    ("grpo.towers=alternating",),
    ("grpo.pool=batch", "grpo.batch_items=16"),
    ("grpo.pool=batch", "grpo.batch_items=16", "grpo.towers=both"),
]


@pytest.mark.parametrize("settings", GRPO, ids="+".join)
def test_grpo_trains_on_queries_without_pairs(settings, few, none, train_here, release, tmp_path):
    for data in (few, none):
        got = train_here("grpo", tmp_path / data.name, *settings, "grpo.steps=3", release=release, data=data)
        assert all(np.isfinite([r["loss"], r["kl"], r["grad_norm"]]).all() for r in got)
        assert all(r["grad_norm"] > 0 for r in got)
    assert all(r["anchor"] == 0 for r in got)  # without any pair there is nothing to anchor


def test_a_query_without_a_pair_has_no_share_in_the_anchor(few, train_here, release, tmp_path):
    """Embedded anew or taken from the bank, the anchor is one number: the stand-in for a missing pair is masked."""
    settings = ("grpo.steps=1", "grpo.queries=40", "grpo.staleness=0")
    anchors = [
        train_here("grpo", tmp_path / which, f"grpo.towers={which}", *settings, release=release, data=few)[0]["anchor"]
        for which in ("query", "both", "alternating")
    ]
    assert anchors[0] > 0
    assert anchors == pytest.approx([anchors[0]] * 3, abs=1e-5)


OTHERS = [("sft",), ("hard_negatives",), ("live_infonce",), ("live_infonce", "live_infonce.towers=both")]


@pytest.mark.parametrize("chosen", OTHERS, ids="+".join)
def test_what_learns_from_pairs_uses_those_there_are_and_says_so_without_any(
    chosen, few, none, train_here, release, tmp_path
):
    objective, *settings = chosen
    got = train_here(objective, tmp_path / "few", *settings, f"{objective}.steps=3", release=release, data=few)
    assert all(np.isfinite(r["loss"]) for r in got)
    with pytest.raises(InputError, match="give queries with at least one pair"):
        train_here(objective, tmp_path / "none", *settings, release=release, data=none)
