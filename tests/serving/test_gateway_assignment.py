"""Assignment by hash: sticky, monotone, of the right share, and independent between rollouts."""

from hypothesis import given
from hypothesis import strategies as st

from taoemb.serving.assignment import assign, place
from taoemb.serving.traffic import Arm, Traffic

units = st.text(max_size=40)
percents = st.floats(0, 100)
MANY = [f"user{number}" for number in range(20_000)]


def split(percent: float, salt: str) -> Traffic:
    return Traffic(Arm("a", ()), Arm("b", ()), percent, salt=salt)


@given(units, units, percents, percents)
def test_growing_the_share_moves_units_to_the_candidate_only(unit: str, salt: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    before, after = assign(split(small, salt), unit), assign(split(large, salt), unit)
    assert before == assign(split(small, salt), unit)
    assert (before, after) != ("candidate", "control")


@given(units, units)
def test_nobody_at_0_and_everybody_at_100_percent(unit: str, salt: str) -> None:
    assert assign(split(0, salt), unit) == "control"
    assert assign(split(100, salt), unit) == "candidate"
    assert assign(Traffic(Arm("a", ()), None, 100, salt=salt), unit) == "control"
    assert 0 <= place(salt, unit) < 100


def test_the_share_is_the_percent_and_salts_are_independent() -> None:
    first = {unit for unit in MANY if assign(split(30, "one"), unit) == "candidate"}
    second = {unit for unit in MANY if assign(split(30, "two"), unit) == "candidate"}
    assert abs(len(first) / len(MANY) - 0.3) < 0.016  # five standard deviations
    assert abs(len(first & second) / len(MANY) - 0.09) < 0.011


@given(units, st.text(min_size=1, max_size=5))
def test_salt_and_unit_are_not_just_joined(unit: str, moved: str) -> None:
    assert place(moved, unit) != place("", moved + unit)
