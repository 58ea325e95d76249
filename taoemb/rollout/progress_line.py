"""One line about a rollout under way, for a terminal."""

import time

from taoemb.rollout.measurement.measured import Measurement
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import RolloutState
from taoemb.rollout.verdict import Verdict


def progress_line(state: RolloutState, plan: Plan, last: tuple[Measurement, Verdict] | None, note: str) -> str:
    """Time, phase and share, then what the latest look found of the plan's metric, or what is waited for."""
    clock = time.strftime("%H:%M:%S")
    if state.phase != "Stepping":
        return f"{clock}  {state.phase}: {state.message or state.reason}"
    share = f"{plan.steps[state.step].percent:g} %"
    head = f"{clock}  step {state.step + 1}/{len(plan.steps)} ({share})"
    if last is None or not state.looks:
        return f"{head}  {state.message or state.reason}"
    measurement, verdict = last
    primary = next((reason.text for reason in verdict.reasons if reason.check == plan.metric), "")
    parts = [
        primary,
        f"{measurement.graded:,} pages graded" + (f", {measurement.waiting:,} wait" if measurement.waiting else ""),
        verdict.outcome if not verdict.next_step else "next step",
        note,
        state.message if state.unready_since is not None else "",
    ]
    return f"{head}  " + " · ".join(part for part in parts if part)
