"""What docs/data.md says is so: its commands parse, its numbers hold."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taoemb.cli.data import app
from taoemb.data.shop_queries import KIND_SHARES
from taoemb.data.taxonomy import load_shop
from taoemb.settings.data import QUERY_KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    taoemb data (.+)$", PAGE.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_with_their_options(command):
    words = shlex.split(command, comments=True)
    name = words[: 2 if words[0] == "import" else 1]
    shown = CliRunner().invoke(app, [*name, "--help"])
    assert shown.exit_code == 0
    assert all(word in shown.output for word in words if word.startswith("--"))


def test_numbers_and_kinds():
    shop = load_shop()
    assert f"{len(shop.departments)} departments, {len(shop.categories)} categories" in PAGE
    assert all(f"| {kind} |" in PAGE for kind in KIND_SHARES)
    assert ", ".join(QUERY_KINDS) in " ".join(PAGE.split())
