"""A judge server as a process: it starts, stops, says why it can't, and never outlives who started it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from taoemb.errors import TaoembError
from taoemb.judge.local import running_judge
from tests.judge.test_server import ASK

SERVE = [sys.executable, "-m", "taoemb", "judge", "serve"]
HOLD = """
import sys, time
from taoemb.judge.local import running_judge
with running_judge(sys.argv[1]) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def gone_within(url: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not answers(url)


def test_it_serves_in_the_block_and_ends_with_it(lm_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "judge.log"
    with running_judge(lm_folder, name="other", threads=1, log=log) as url:
        assert httpx.get(f"{url}/models").json()["data"][0]["id"] == "other"
        slow = ASK | {"model": "other", "messages": [ASK["messages"]] * 200}
        status: list[int] = []
        asking = threading.Thread(
            target=lambda: status.append(httpx.post(f"{url}/chat/completions/batch", json=slow, timeout=60).status_code)
        )
        asking.start()
        time.sleep(0.1)
    asking.join()
    assert status == [200]  # what was under way at SIGTERM is answered
    assert not answers(url)
    said = log.read_text()
    assert "Uvicorn running on http://127.0.0.1:" in said
    assert "Traceback" not in said
    assert "Fatal" not in said


def test_it_does_not_outlive_a_killed_parent(lm_folder: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", HOLD, str(lm_folder)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    assert answers(url)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(10)
    assert gone_within(url, 10)


def test_a_start_that_fails_gives_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "judge.log"
    reason = r"stopped at its start \(exit 2\): taoemb: --model .*neither judge\.json.*judge\.log"
    with pytest.raises(TaoembError, match=reason), running_judge(tmp_path, log=log):
        pytest.fail("it can't serve an empty folder")


def test_a_port_in_use_is_bad_usage(lm_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*SERVE, "--model", str(lm_folder), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"taoemb: --host 127.0.0.1 --port {port}: Address already in use; choose another"


def test_kserve_does_not_read_our_command_line() -> None:
    """KServe parses sys.argv when it is imported: it would take --config for --configure_logging and exit."""
    script = "import sys; from taoemb.hosting.entry import import_kserve; import_kserve(); print(sys.argv[1:])"
    command = [sys.executable, "-c", script, "--config", "settings.yaml", "--port", "no"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "['--config', 'settings.yaml', '--port', 'no']")
