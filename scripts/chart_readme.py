"""Write helm/taoemb/README.md and values.schema.json from its values.yaml; `--check` fails when one is stale."""

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.chart_schema import schema_of
from scripts.chart_values import Value, read_values

CHART = Path(__file__).parents[1] / "helm" / "taoemb"


def written() -> dict[Path, str]:
    """What both files should hold."""
    values = read_values(CHART / "values.yaml")
    schema = json.dumps(schema_of(values), indent=1, ensure_ascii=False) + "\n"
    return {CHART / "README.md": _page(values), CHART / "values.schema.json": schema}


def _page(values: list[Value]) -> str:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    head = (CHART / "README.head.md").read_text(encoding="utf-8").format(version=about["version"])
    sections = [_section(name, list(group)) for name, group in groupby(values, _part)]
    return head + "".join(sections)


def _part(value: Value) -> str:
    return value.path[0] if len(value.path) > 1 else ""


def _section(name: str, values: list[Value]) -> str:
    title = f"\n### {name}\n" if name else "\n### all\n"
    rows = "".join(
        f"| `{'.'.join(value.path)}` | {_kind(value.schema)} | {_default(value.default)} | {value.text} |\n"
        for value in values
    )
    return f"{title}\n| value | type | default | |\n|---|---|---|---|\n{rows}"


def _kind(schema: Any) -> str:
    if "enum" in schema:
        return " \\| ".join(
            f"`{str(choice).lower()}`" if isinstance(choice, bool) else f"`{choice}`" for choice in schema["enum"]
        )
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    kind = schema["type"]
    return " \\| ".join(kind) if isinstance(kind, list) else str(kind)


def _default(default: Any) -> str:
    return "" if default == "" else f"`{json.dumps(default, ensure_ascii=False)}`"


if __name__ == "__main__":
    stale = [path for path, text in written().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(map(str, stale))}: run this script" if stale else 0)
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
