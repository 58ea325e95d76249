"""docs/results.md says what the JSON files say."""

import runpy
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "results_page.py"


def test_the_page_is_what_the_results_make():
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_aim_that_is_not_met_says_what_was_tried_and_a_bar_does_not_break_a_table():
    page = runpy.run_path(str(SCRIPT))["page"]
    content = {
        "title": "Speed",
        "date": "2026-01-01",
        "command": "python -m benchmarks.speed.x",
        "machine": "2 cores",
        "seconds": 1200,
        "tables": [{"title": "T", "text": "Words.", "head": ["a|b"], "rows": [["1"]]}],
        "aims": [{"aim": "fast", "measured": "1.2×", "met": False, "tried": "Two things."}],
        "notes": ["A note."],
    }
    text = page({"speed/x": content})
    assert "in 20 minutes" in text
    assert "| fast | 1.2×. Two things. | **not met** | [speed/x](../benchmarks/speed/x.py) |" in text
    assert "| a\\|b |\n| --- |\n| 1 |" in text
    assert "not measured" in text  # the GPU's aims, when no result is there
