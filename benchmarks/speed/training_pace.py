"""How the processes of benchmarks/speed/training.py take turns: each trains a round when it is told, and waits.

A line "go" comes in; when a round's steps are done, a JSON object goes out. So processes that each hold one contender,
and each know its peak memory, are still measured side by side.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Plan:
    """The rounds of one kind of text; the first round is the warm-up."""

    texts: str
    steps: int
    rounds: int

    @property
    def all_steps(self) -> int:
        """Steps from the first to the last round."""
        return self.steps * self.rounds


class Pace:
    """The trainer's side: `begin` before the first step, `step` after each."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer

    def begin(self, plan: Plan) -> None:
        """Wait for the first round of `plan`."""
        self._plan, self._done, self.first_loss = plan, 0, 0.0
        self._wait()

    def step(self) -> None:
        """A step is done; at the end of a round, say so and wait for the next."""
        self._done += 1
        if self._done % self._plan.steps:
            return
        seconds = time.perf_counter() - self._since
        answer = {"seconds": seconds, "first_loss": self.first_loss, "peak_mib": peak_mib()}
        print(json.dumps(answer), file=self._out, flush=True)
        if self._done < self._plan.all_steps:
            self._wait()

    def _wait(self) -> None:
        if not sys.stdin.readline():
            sys.exit(1)  # nobody is there any more
        self._since = time.perf_counter()


class Trainer:
    """The other side: one process that trains on request."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        """Start `python -m module`; what it says beside its answers goes to the file `log`."""
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def round(self) -> dict[str, Any]:
        """Train a round. Raises RuntimeError with what the process said when it is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._process.args)} ended:\n{self._log.read_text()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def peak_mib() -> int:
    """The most memory that this process has held (resident, MiB)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024
