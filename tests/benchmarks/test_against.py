"""A table of systems against the first one tells means, differences and intervals of the same queries."""

import re

import numpy as np

from benchmarks.quality.against import against_first, differences


def test_means_and_differences_to_the_first_system():
    rng = np.random.default_rng(0)
    base = rng.random(200)
    shift = rng.normal(0.1, 0.05, 200)
    base[0] = np.nan  # a query for which the metric is undefined counts nowhere
    systems = {"base": [{"m": base}], "ours": [{"m": base + shift - 0.01}, {"m": base + shift + 0.01}]}
    table = against_first("A table", systems, ("m",))
    assert table.head == ["system", "m"]
    assert table.rows[0] == ["base", f"{np.nanmean(base):.3f}"]
    name, cell = table.rows[1]
    mean, value, low, high = (float(number) for number in re.findall(r"[-+]?\d\.\d{3}", cell))
    assert name == "ours"
    assert mean == round(float(np.nanmean(base + shift)), 3)
    assert value == round(float(np.mean(shift[1:])), 3)
    assert low < value < high
    assert high - low < 0.03


def test_rows_of_differences():
    rng = np.random.default_rng(0)
    base = rng.random(100)
    systems = {"a": [{"m": base}], "b": [{"m": base + 0.1}, {"m": base + 0.3}]}
    table = differences("D", systems, [("b", "a"), ("a", "b")], ("m",))
    assert table.rows[0] == ["b − a", "+0.200 [+0.200, +0.200]"]
    assert table.rows[1] == ["a − b", "-0.200 [-0.200, -0.200]"]
