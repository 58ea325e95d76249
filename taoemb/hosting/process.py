"""A model server beside a job, for as long as the job needs it."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from taoemb.errors import TaoembError

START_S = 600.0
STOP_S = 15.0
_POLL_S = 0.05


@contextmanager
def running_server(
    arguments: Sequence[str], *, what: str, ready: str, port: int | None = None, log: Path | None = None
) -> Iterator[str]:
    """Run `taoemb` with `arguments`, a serving command, on a loopback port; yields its root URL.

    `what` names it in errors, `ready` is the path that answers 200 once it serves. The server runs in a process of its
    own and stops at the end of the block, also when this process is killed. It writes to `log` (default: a temporary
    file, kept when something fails). Raises TaoembError with the last line of the log when it does not start.
    """
    path = log or Path(tempfile.mkstemp(prefix=f"taoemb-{what}-", suffix=".log")[1])
    port = port or _free_port()
    root = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "taoemb", *arguments]
    command += ["--host", "127.0.0.1", "--port", str(port), "--exit-with-parent"]
    with path.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, what, root + ready, path)
        yield root
    finally:
        _stop(process)
    if log is None:
        path.unlink(missing_ok=True)


def _wait_until_ready(process: subprocess.Popen, what: str, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    with httpx.Client(trust_env=False, timeout=5.0) as http:
        while time.monotonic() < deadline:
            code = process.poll()
            if code is not None:
                raise TaoembError(
                    f"the {what} server stopped at its start (exit {code}): {_last_line(log)} (log: {log})"
                )
            try:
                ready = http.get(url).status_code == 200
            except httpx.TransportError:
                ready = False
            if ready and process.poll() is None:
                return
            time.sleep(_POLL_S)
    raise TaoembError(f"the {what} server was not ready after {START_S:.0f} s: {_last_line(log)} (log: {log})")


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
