"""Every message that docs/troubleshooting.md quotes is one that the code or the chart writes."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from taoemb.config import Config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
RULES = ROOT / "manifests" / "base" / "monitoring" / "rules.yaml"


def quoted() -> list[str]:
    """The first cell of each row that is no alert: what is between its first and last backtick."""
    cells = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| `")]
    return [cell.partition("` (")[0].strip("` ") for cell in cells if not cell.startswith("`Taoemb")]


@cache
def messages() -> tuple[str, ...]:
    """Every text of the code, with … where a value goes."""
    files = sorted((ROOT / "taoemb").rglob("*.py"))
    return tuple(text for file in files for text in _texts(ast.parse(file.read_text(encoding="utf-8"))))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.replace("%s", "…")
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def _pattern(message: str) -> re.Pattern[str]:
    """A … of the page stands for anything, so also for a value and the words around it."""
    parts = [re.escape(part.strip()) for part in message.split("…")]
    return re.compile(".*".join(parts), re.DOTALL)


def test_the_page_quotes_messages():
    assert len(quoted()) > 50


@pytest.mark.parametrize("message", quoted())
def test_the_code_says_so(message):
    words = message.replace("`", "")
    assert len(re.sub(r"[^a-z]", "", words)) > 8, "too little to look for"
    pattern = _pattern(words)
    assert any(pattern.search(text.replace("`", "")) for text in messages())


def test_every_alert_is_explained():
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    told = set(re.findall(r"`(Taoemb\w+)`", PAGE))
    assert told == alerts


def test_settings_that_it_names_exist():
    tree = Config().model_dump()
    values = yaml.safe_load((ROOT / "helm" / "taoemb" / "values.yaml").read_text(encoding="utf-8"))
    named = re.findall(r"`([a-z]+(?:_[a-z]+)*)\.(\w+)(?:=[^`]*)?`", PAGE)
    known = [(section, name) for section, name in named if section in tree or section in values]
    assert len(known) > 8
    for section, name in known:
        assert name in (tree.get(section) or {}) or name in values.get(section, {}), f"{section}.{name}"
