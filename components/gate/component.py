"""Decides whether a release may be published."""

from kfp import dsl

from components.base import component


@component
def gate(settings: str, evaluation: dsl.Input[dsl.Artifact], verdict: dsl.Output[dsl.Metrics]):
    """Apply the gate's rules; a release that does not pass fails the step, so that nothing after it runs.

    Args:
        settings: Section `gate` as YAML text.
        evaluation: What the evaluation found.
        verdict: Whether it passed; the file holds the reasons as JSON.
    """
    import json
    from dataclasses import asdict
    from pathlib import Path

    from taoemb.errors import TaoembError
    from taoemb.evaluation.gate import check
    from taoemb.jobs import steps

    result = check(Path(evaluation.path), steps.settings_from(settings).gate)
    Path(verdict.path).write_text(json.dumps(asdict(result), indent=2, ensure_ascii=False), encoding="utf-8")
    verdict.log_metric("passed", float(result.passed))
    if not result.passed:
        raise TaoembError(f"the gate refused this release, it is not published: {'; '.join(result.reasons)}")
    print("; ".join(result.reasons))
