"""Reference values of the `confseq` package for tests/rollout/statistics: `make confseq` runs this.

The package (0.0.11, by the methods' authors) has C++ parts that need building, and works with numpy before 2 only. So
it is installed in an environment of its own, and its answers are kept in a file.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from confseq.betting import betting_mart, hedged_cs
from confseq.boundaries import normal_mixture_bound
from confseq.conjmix_bounded import conjmix_empbern_twosided_cs
from confseq.predmix import predmix_empbern_twosided_cs

OUT = Path(__file__).parents[1] / "tests" / "rollout" / "statistics" / "confseq.json"
ALPHA = 0.05
LOOKS = [25, 50, 100, 200, 400, 800]
BETS = [0.01, 0.05, 0.2, 0.5, 0.9]
MEANS = [0.2, 0.5, 0.8]
VARIANCES = [0.5, 1.0, 10.0, 100.0, 1000.0, 100000.0]


def main() -> None:
    """Write the file."""
    random = np.random.default_rng(7)
    data = {
        "binary": (random.random(LOOKS[-1]) < 0.7).astype(float),
        "pages": np.round(random.beta(3, 1.2, LOOKS[-1]), 1),
        "rare": (random.random(LOOKS[-1]) < 0.03).astype(float),
    }
    reference = {
        "confseq": version("confseq"),
        "alpha": ALPHA,
        "looks": LOOKS,
        "data": {name: x.tolist() for name, x in data.items()},
        "normal_mixture": [
            {"v_opt": v_opt, "alpha": alpha, "variance": VARIANCES, "bound": _normal(v_opt, alpha)}
            for v_opt in (10.0, 250.0)
            for alpha in (0.05, 0.005)
        ],
        "capital": [
            {"data": name, "mean": mean, "bet": bet, "capital": _capital(x, mean, bet)}
            for name, x in data.items()
            for mean in MEANS
            for bet in BETS
        ],
        "intervals": {name: _intervals(x) for name, x in data.items()},
    }
    OUT.write_text(json.dumps(reference) + "\n", encoding="utf-8")


def _normal(v_opt: float, alpha: float) -> list[float]:
    return normal_mixture_bound(VARIANCES, alpha=alpha, v_opt=v_opt, alpha_opt=alpha, is_one_sided=True).tolist()


def _capital(x: np.ndarray, mean: float, bet: float) -> list[float]:
    capital = betting_mart(x, mean, lambdas_fn_positive=lambda x, m: np.full(len(x), bet), theta=1, trunc_scale=0.99)
    return capital[np.array(LOOKS) - 1].tolist()


def _intervals(x: np.ndarray) -> dict[str, list[list[float]]]:
    at = np.array(LOOKS) - 1
    found = {
        "hedged": hedged_cs(x, alpha=ALPHA, breaks=4000, running_intersection=False),
        "empirical_bernstein_mixture": conjmix_empbern_twosided_cs(x, v_opt=40, alpha=ALPHA),
        "empirical_bernstein_predictable": predmix_empbern_twosided_cs(x, alpha=ALPHA),
    }
    return {name: [np.asarray(side)[at].tolist() for side in sides] for name, sides in found.items()}


if __name__ == "__main__":
    main()
