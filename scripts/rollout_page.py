"""Write the tables of docs/rollout.md from the plan's class and the metrics; `--check` fails when they are stale."""

import re
import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from taoemb.rollout.measurement.page_metrics import BOUNDS, DESCRIPTIONS
from taoemb.rollout.plan import LOWER_IS_BETTER, Guardrail, Plan, SliceRule, Step

PAGE = Path(__file__).parents[1] / "docs" / "rollout.md"


def metrics() -> str:
    """A line a metric."""
    rows = ["| metric | | better | bounds |", "|---|---|---|---|"]
    for name, description in DESCRIPTIONS.items():
        bounds = BOUNDS[name]
        shown = "none" if bounds is None else f"{bounds[0]:g} … {bounds[1]:g}"
        rows.append(f"| `{name}` | {description} | {'less' if name in LOWER_IS_BETTER else 'more'} | {shown} |")
    return "\n".join(rows)


def fields(model: type[BaseModel]) -> str:
    """A line a field."""
    rows = ["| key | default | |", "|---|---|---|"]
    for key, field in model.model_fields.items():
        rows.append(f"| `{key}` | {_default(field.default)} | {field.description or NOTES[key]} |")
    return "\n".join(rows)


NOTES = {
    "steps": "Shares of the units; they must grow.",
    "design": "`ab`, or `interleaving` with metric `preference`.",
    "goal": "`superiority` or `non-inferiority`.",
    "guardrails": "Metrics that the candidate must not worsen beyond a margin.",
    "slices": "Regular expressions that make slices of queries.",
    "metric": "The metric.",
    "name": "Name of the slice.",
    "pattern": "Regular expression; case does not count.",
}


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, tuple):
        return ", ".join(_part(one) for one in value) or "none"
    return "none" if value is None else f"`{value}`"


def _part(value: object) -> str:
    if isinstance(value, Step):
        return f"{value.percent:g} %"
    if isinstance(value, Guardrail):
        return f"{value.metric}{'' if value.slice == 'all' else ' on ' + value.slice} {value.margin:g}"
    return str(value)


def page(text: str) -> str:
    """The page with its tables made anew."""
    parts = [fields(Plan)]
    for title, model in (("A step", Step), ("A guardrail", Guardrail), ("A slice", SliceRule)):
        parts.append(f"{title}:\n\n{fields(model)}")
    for name, table in (("metrics", metrics()), ("plan", "\n\n".join(parts))):
        inside = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _, new=inside: new, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv:
        sys.exit(0 if old == new else f"{PAGE} is stale: run this script")
    PAGE.write_text(new, encoding="utf-8")
