"""Log lines: time and level on each, one line a record whatever it quotes, JSON when asked for, one form for all."""

import json
import re
import subprocess
import sys

import pytest

from taoemb.hosting.logs import log_config

TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) [\w.]+: .+")
PROGRAM = """
import logging, sys
from taoemb.hosting.logs import FIELDS, configure_logs
configure_logs(sys.argv[1])
logging.getLogger("taoemb.serving").info("a title:\\n[2J INFO nothing")
logging.getLogger("taoemb.serving").debug("below the level")
logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
logging.getLogger("uvicorn.access").info("GET /")
logging.getLogger("kserve").info("Registering model")
logging.getLogger("other.library").warning("deprecated")
logging.getLogger("taoemb").warning("failed", extra={FIELDS: {"request_id": "r-1"}})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("taoemb").exception("unforeseen")
"""


def lines(form: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, form], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr.splitlines()


def test_each_line_has_time_and_level():
    said = lines("text")
    *logged, failed = said[: said.index("Traceback (most recent call last):")]
    assert all(TEXT.fullmatch(line) for line in [*logged, failed]), said
    assert [line.split()[1] for line in logged] == ["INFO", "INFO", "INFO", "WARNING", "WARNING"]
    assert "a title:\\n[2J INFO nothing" in logged[0]
    assert logged[-1].endswith("taoemb: failed request_id=r-1")


def test_json_is_one_object_a_line_from_every_logger():
    trees = [json.loads(line) for line in lines("json")]
    assert [tree["logger"] for tree in trees] == [
        "taoemb.serving",
        "uvicorn.error",
        "kserve",
        "other.library",
        "taoemb",
        "taoemb",
    ]
    assert trees[0]["message"] == "a title:\n[2J INFO nothing"
    assert trees[4]["request_id"] == "r-1"
    assert trees[5]["level"] == "ERROR"
    assert "ZeroDivisionError" in trees[5]["exception"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", tree["time"]) for tree in trees)


@pytest.mark.parametrize("name", ["kserve", "uvicorn"])
def test_nobody_brings_a_form_of_his_own(name):
    """KServe configures its logger unless it has a handler; uvicorn's would bring one that is not ours."""
    loggers = log_config()["loggers"]
    assert loggers[name]["handlers"] == (["stderr"] if name == "kserve" else [])
