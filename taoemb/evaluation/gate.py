"""The gate: whether a release may be published, with the reasons in words and numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taoemb.config import GateConfig
from taoemb.errors import InputError
from taoemb.evaluation.plots import number
from taoemb.evaluation.slices import ALL

EVALUATION_FILE = "evaluation.json"
LISTED = 6  # slices named in one reason
ROUNDING = 1e-9  # differences this small are arithmetic


@dataclass(frozen=True)
class GateResult:
    """`reasons` says what was asked and what was found, one line a rule; `failures` are those that did not pass."""

    passed: bool
    reasons: list[str]
    failures: list[str]


def load_evaluation(path: Path) -> dict[str, Any]:
    """The content of evaluation.json, given the file or its folder. Raises InputError when it is not one."""
    path = path / EVALUATION_FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; run `taoemb evaluate` first") from None
    except ValueError:
        raise InputError(f"{path}: is not JSON; give the folder that `taoemb evaluate` wrote") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not an evaluation; give the folder that `taoemb evaluate` wrote")
    return content


def check(metrics: Path | Mapping[str, Any], config: GateConfig) -> GateResult:
    """Apply the gate's rules to an evaluation against a baseline.

    `metrics` is the content of evaluation.json, that file, or its folder. The metric's interval of differences on all
    queries must satisfy `margin` and `require_gain`; no slice of at least `min_queries` queries may be surely worse
    than `guard_margin`. Raises InputError when there is no baseline or the metric was not computed.
    """
    differences = _differences(metrics, config.metric)
    overall = differences.get(ALL)
    if overall is None:
        reason = f"{config.metric} is defined for no query that both systems answered; fails"
        return GateResult(False, [reason], [reason])
    passed, reason = _main_rule(overall, config)
    reasons, failures, skipped = [reason], [] if passed else [reason], []
    guarded = {name: found for name, found in differences.items() if name != ALL}
    for name, found in guarded.items():
        if found["queries"] < config.min_queries:
            skipped.append(f"{name} ({found['queries']})")
        elif found["high"] < -config.guard_margin - ROUNDING:
            failures.append(
                f"slice {name}: {_shown(found)}; fails: the whole interval lies below −{config.guard_margin:g}"
            )
            reasons.append(failures[-1])
    watched = len(guarded) - len(skipped)
    if watched and len(reasons) == 1:
        noun = "slice has" if watched == 1 else "slices have"
        reasons.append(f"{watched} {noun} no interval wholly below −{config.guard_margin:g}; passes")
    if skipped:
        more = f" and {len(skipped) - LISTED} more" if len(skipped) > LISTED else ""
        reasons.append(f"not checked, fewer than {config.min_queries} queries: {', '.join(skipped[:LISTED])}{more}")
    return GateResult(not failures, reasons, failures)


def _main_rule(found: Mapping[str, Any], config: GateConfig) -> tuple[bool, str]:
    what = f"{config.metric}: {_shown(found)}"
    if found["queries"] < config.min_queries:
        return False, f"{what}; fails: at least {config.min_queries} queries are needed"
    if config.require_gain:
        passed = found["low"] > ROUNDING
        return passed, f"{what}; {_says(passed)}: the interval must lie above 0"
    passed = found["low"] >= -config.margin - ROUNDING
    floor = f"−{config.margin:g}" if config.margin else "0"
    return passed, f"{what}; {_says(passed)}: the interval's lower end must be at least {floor}"


def _says(passed: bool) -> str:
    return "passes" if passed else "fails"


def _shown(found: Mapping[str, Any]) -> str:
    numbers = [number(found[name], signed=True, digits=4) for name in ("value", "low", "high")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}] against the baseline on {found['queries']} queries"


def _differences(metrics: Path | Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    where = "the evaluation" if isinstance(metrics, Mapping) else str(metrics)
    content = metrics if isinstance(metrics, Mapping) else load_evaluation(metrics)
    differences = content.get("differences")
    if not differences:
        raise InputError(f"{where}: has no differences to a baseline; evaluate with --baseline DIR")
    if metric not in differences:
        raise InputError(f"gate.metric {metric!r} was not computed; choose one of {', '.join(differences)}")
    return differences[metric]
