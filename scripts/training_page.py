"""Write the tables of docs/training.md on runs that go on; `--check` fails when they are stale."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from taoemb.training.identity import MAY_CHANGE  # noqa: E402
from tests.training.matrix import OBJECTIVES, ROWS, cell  # noqa: E402

PAGE = ROOT / "docs" / "training.md"


def matrix() -> str:
    """A line for each thing that may come between."""
    heads = " | ".join(name.replace("_", "-") for name in OBJECTIVES)
    rows = [f"| came between | {heads} |", "|---" * (1 + len(OBJECTIVES)) + "|"]
    return "\n".join([*rows, *(f"| {row} | {' | '.join(cell(row, name) for name in OBJECTIVES)} |" for row in ROWS)])


def changes() -> str:
    """A line for each reason, with all that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for what, why in MAY_CHANGE.items():
        by_reason.setdefault(why, []).append(f"`{what}`" if "." in what else what)
    rows = [f"| {', '.join(names)} | {why} |" for why, names in by_reason.items()]
    return "\n".join(["| may change | because |", "|---|---|", *rows])


def page(text: str) -> str:
    """The page with its tables made anew."""
    for name, table in (("resume", matrix()), ("may change", changes())):
        inside = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text, found = re.subn(f"<!-- {name} -->.*<!-- /{name} -->", lambda _, new=inside: new, text, flags=re.DOTALL)
        assert found == 1, name
    return text


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv:
        sys.exit(0 if old == new else f"{PAGE} is stale: run this script")
    PAGE.write_text(new, encoding="utf-8")
