"""Team-draft interleaving: fair, complete, repeatable, and never credit for what both would not contest."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.serving.gateway.interleave import team_draft

rankings = st.lists(st.integers(0, 30), unique=True, max_size=12)
depths = st.integers(1, 15)
seeds = st.text("abcdef0123456789", min_size=1, max_size=8)


def draft(control, candidate, k, seed):
    return team_draft(control, candidate, k, seed, key=lambda item: item)


@given(rankings, rankings, depths, seeds)
@settings(max_examples=300, deadline=None)
def test_a_page_is_made_of_both_rankings(control: list[int], candidate: list[int], k: int, seed: str) -> None:
    page = draft(control, candidate, k, seed)
    items = [item for item, _ in page]
    assert page == draft(control, candidate, k, seed)
    assert len(items) == len(set(items)) == min(k, len({*control, *candidate}))
    picks = Counter(team for _, team in page)
    assert abs(picks["control"] - picks["candidate"]) <= 1
    for place, (item, team) in enumerate(page):
        if team is not None:  # the best of the team's ranking that was not on the page yet
            ranking = control if team == "control" else candidate
            assert item == next(one for one in ranking if one not in items[:place])
    teams = [team for _, team in page]
    contested = len(teams) - picks[None]
    assert teams[contested:] == [None] * picks[None]  # nobody is credited once one ranking is used up
    if picks[None]:
        assert set(control) <= set(items[:contested]) or set(candidate) <= set(items[:contested])


@given(st.lists(st.integers(), unique=True, min_size=10, max_size=10), st.integers(1, 10))
@settings(max_examples=50, deadline=None)
def test_equal_rankings_come_out_unchanged(ranking: list[int], k: int) -> None:
    page = draft(ranking, ranking, k, "seed")
    assert [item for item, _ in page] == ranking[:k]
    assert all(team is not None for _, team in page)


def test_each_team_leads_half_of_the_pages() -> None:
    leaders = Counter(draft([1, 2], [3, 4], 2, f"request{n}")[0][1] for n in range(2000))
    assert 900 < leaders["control"] < 1100  # five standard deviations
    assert leaders["control"] + leaders["candidate"] == 2000


def test_the_coin_is_tossed_anew_each_turn() -> None:
    pages = Counter("".join(str(item) for item, _ in draft([1, 2], [3, 4], 4, f"request{n}")) for n in range(2000))
    assert set(pages) == {"1324", "1342", "3124", "3142"}
    assert min(pages.values()) > 400
