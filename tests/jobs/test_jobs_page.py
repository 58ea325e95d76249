"""docs/jobs.md: its table is its script's arithmetic, its commands are ones that the command line takes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from taoemb.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")


def test_the_sizing_table_is_what_the_arithmetic_gives():
    subprocess.run([sys.executable, str(ROOT / "scripts" / "sizing_table.py"), "--check"], check=True)


def test_the_command_for_a_cluster_renders(capsys):
    commands = re.findall(r"^    taoemb (train (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    (command,) = [one for one in commands if "trainjob" in one]
    words = shlex.split(command.replace("\\\n", " ").replace("…", "h"))
    with pytest.raises(SystemExit) as done:
        main([*words, "--render"])
    assert done.value.code == 0
    trainer = yaml.safe_load(capsys.readouterr().out)["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
