"""Query encoder servers under the same open-loop load: ours, infinity-emb's, and the one most teams write first.

    python -m benchmarks.speed.serving            # about four minutes; --quick tries it out and saves nothing

All serve the packaged encoder through OpenAI's embeddings route (plain JSON floats), one query a request, on the same
cores, one server awake at a time (the others are stopped by a signal). Queries come at random times (Poisson); latency
counts from the time at which a query was due (see http_load.py). The client has a process of its own on the same
cores: what it costs is taken from all servers alike.
"""

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.record import Aim, Ratio, Record, Table, in_turn, options, ratio
from benchmarks.rivals.environment import python, variables
from benchmarks.speed.encoder_backends import queries
from benchmarks.speed.http_load import Answered, Generator, Load
from taoemb.config import EncoderConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import save_release

RATES = (25, 50, 90, 150, 230, 330, 480, 700)
BOUNDS_MS = (50.0, 100.0)
GIVE_UP_MS = 200.0  # p99 at which no higher rate is tried
AIM = 1.5
NAME = "encoder"
ROOT = Path(__file__).resolve().parent.parent.parent
TRIED = (
    "Tried for our server so far: full garbage collections skip what start-up made. Not tried: other latency budgets "
    "and pass sizes, ONNX Runtime instead of OpenVINO in this test, routes before KServe's middleware."
)


@dataclass(frozen=True)
class Contender:
    """A server, and how it is started."""

    name: str
    path: str
    command: Sequence[str]
    port: int
    best: bool = False
    """Not fp32, but the fastest precision that it has here."""


def contenders(release: Path, graphs: Path, threads: int, ports: Iterator[int]) -> list[Contender]:
    """All of them, in fp32 and in bf16."""
    ours = [sys.executable, "-m", "taoemb", "serve", "encoder", "--release", str(release), "--name", NAME]
    for setting in ("backend=openvino", f"threads={threads}", f"graphs={graphs}", "linger_s=0"):
        ours += ["--set", f"encoder_server.{setting}"]
    infinity = [str(python("infinity").with_name("infinity_emb")), "v2", "--model-id", str(release)]
    infinity += ["--served-model-name", NAME, "--host", "127.0.0.1", "--device", "cpu", "--log-level", "error"]
    infinity += ["--no-compile", "--no-model-warmup"]
    plain = [sys.executable, "-m", "benchmarks.rivals.plain_server", str(release), "--threads", str(threads)]
    found = []
    for name, path, command, fp32, bf16 in (
        ("taoemb", "/openai/v1/embeddings", ours, [], ["--set", "encoder_server.precision=bf16"]),
        ("infinity-emb", "/embeddings", infinity, ["--dtype", "float32"], ["--dtype", "bfloat16"]),
        ("FastAPI + SentenceTransformer", "/embeddings", plain, [], ["--dtype", "bfloat16"]),
    ):
        for precision, more in (("fp32", fp32), ("bf16", bf16)):
            port = next(ports)
            whole = [*command, *more, "--port", str(port)]
            found.append(Contender(f"{name} {precision}", path, whole, port, precision != "fp32"))
    return found


class Server:
    """A contender's running process, asleep between its turns."""

    def __init__(self, contender: Contender, generator: Generator, bodies: Sequence[bytes], threads: int) -> None:
        self.contender, self._generator, self._bodies = contender, generator, bodies
        self._process = subprocess.Popen(
            contender.command,
            env=variables(threads),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def vector(self, text: str) -> np.ndarray:
        """The vector of a text, once the server answers."""
        url = f"http://127.0.0.1:{self.contender.port}{self.contender.path}"
        body = json.dumps({"model": NAME, "input": text}).encode()
        asked = urllib.request.Request(url, body, {"content-type": "application/json"})
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"{self.contender.name} ended: {self.contender.command}"
            try:
                with urllib.request.urlopen(asked, timeout=60) as reply:
                    return np.array(json.load(reply)["data"][0]["embedding"], dtype=np.float32)
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise TimeoutError(self.contender.name)

    def drive(self, rate: float, seconds: float, seed: int) -> Answered:
        """One load on it."""
        load = Load(self.contender.port, self.contender.path, self._bodies, rate, seconds, seed)
        return self._generator.drive(load)

    def sleep(self) -> None:
        """Take no processor time."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        self.wake()
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


Ladder = dict[int, list[Answered]]
"""What came of each rate, round by round."""


def climb(server: Server, ladder: Ladder, rates: Sequence[int], seconds: float) -> float:
    """Rate after rate until the server is far too slow; returns the seconds that it took."""
    began = time.monotonic()
    server.wake()
    server.drive(rates[0], 1.0, 99)  # awake again
    for rate in rates:
        answered = server.drive(rate, seconds, len(ladder.setdefault(rate, [])))
        ladder[rate].append(answered)
        if answered.quantile(0.99) > GIVE_UP_MS:
            break
    server.sleep()
    return time.monotonic() - began


def sustained(ladder: Ladder, number: int, bound_ms: float) -> float:
    """The rate at which p99 reaches the bound in a round: between two measured rates on a line through their logs."""
    below: tuple[float, float] | None = None
    for rate, rounds in sorted(ladder.items()):
        if len(rounds) <= number:
            break
        p99 = min(rounds[number].quantile(0.99), 1000 * GIVE_UP_MS)
        if p99 > bound_ms:
            if below is None:
                return rate * bound_ms / p99
            part = math.log(bound_ms / below[1]) / math.log(p99 / below[1])
            return below[0] * (rate / below[0]) ** part
        below = rate, p99
    return below[0] if below is not None else 0.0


def load_table(ladders: dict[str, Ladder]) -> Table:
    """p50 and p99 of all rates, over all rounds."""
    rows = []
    for rate in RATES:
        if cells := [_cell(ladder.get(rate, [])) for ladder in ladders.values()]:
            rows.append([str(rate), *cells])
    return Table(
        "Encoder servers under open-loop load",
        ["queries/s", *ladders],
        [row for row in rows if any(cell != "–" for cell in row[1:])],
        "p50 / p99 in ms, counted from when a query was due; in brackets answers a second where fewer came than were "
        f"asked for. –: not tried, because p99 was above {GIVE_UP_MS:.0f} ms at a lower rate. One query a request.",
    )


def _cell(rounds: Sequence[Answered]) -> str:
    if not rounds:
        return "–"
    if any(one.overloaded for one in rounds):
        return "overloaded"
    times = np.concatenate([one.latencies_ms for one in rounds])
    return f"{np.quantile(times, 0.5):.1f} / {np.quantile(times, 0.99):.1f}"


def compare(record: Record, ladders: dict[str, Ladder], all_of_them: Sequence[Contender], rounds: int) -> None:
    """Throughput at equal p99, and the aims."""
    rates = {
        (name, bound): [sustained(ladder, number, bound) for number in range(rounds)]
        for name, ladder in ladders.items()
        for bound in BOUNDS_MS
    }
    rows, aims = [], []
    for one in all_of_them:
        row = [one.name]
        against: list[tuple[float, Ratio]] = []
        for bound in BOUNDS_MS:
            ours = rates["taoemb bf16" if one.best else "taoemb fp32", bound]
            found = ratio(ours, rates[one.name, bound])
            row += [f"{statistics.median(rates[one.name, bound]):.0f}", "" if "taoemb" in one.name else str(found)]
            against.append((bound, found))
        rows.append(row)
        if "taoemb" not in one.name:
            aims.append(_aim(one, against))
    head = ["server"]
    for bound in BOUNDS_MS:
        head += [f"queries/s at p99 ≤ {bound:.0f} ms", "ours against it"]
    text = (
        "The rate at which p99 reaches the bound, on a line through the logarithms of the two rates around it (below "
        f"{RATES[0]}: scaled down from there, a guess); ours in the same precision. "
        f"Median of {rounds} rounds, ratios round by round."
    )
    record.tables.append(Table("Throughput at equal p99", head, rows, text))
    record.aims += aims


def _aim(rival: Contender, against: Sequence[tuple[float, Ratio]]) -> Aim:
    met = all(found.median >= AIM for _, found in against)
    return Aim(
        f"Encoder server: ≥ {AIM}× the throughput of {rival.name} at equal p99, same precision",
        "; ".join(f"{found} at {bound:.0f} ms" for bound, found in against),
        met,
        "" if met else TRIED,
    )


@contextlib.contextmanager
def servers(threads: int) -> Iterator[list[Server]]:
    """All contenders, warm, checked to give the same vectors, asleep."""
    bodies = [json.dumps({"model": NAME, "input": text}).encode() for text in queries(512)]
    ports = iter(range(18_600, 18_700))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        release = Path(folder) / "release"
        save_release(release, load_encoder(EncoderConfig()))
        generator = stack.enter_context(Generator())
        started: list[Server] = []
        reference = np.empty(0)
        for contender in contenders(release, Path(folder) / "graphs", threads, ports):
            server = Server(contender, generator, bodies, threads)
            stack.callback(server.stop)
            vector = server.vector("red running shoes")
            reference = reference if started else vector
            cosine = float(vector @ reference / np.linalg.norm(vector) / np.linalg.norm(reference))
            assert cosine > 0.998, f"{contender.name}: cosine {cosine:.4f} with {started[0].contender.name}"
            for number, rate in enumerate((20, 60, 2000)):
                server.drive(rate, 1.0 if rate < 1000 else 0.1, number)
            server.sleep()
            started.append(server)
        yield started


def main(quick: bool, threads: int) -> None:
    """Measure, print and save."""
    record = Record(__file__, "Query encoder servers")
    rates, seconds, rounds = (RATES[::3], 1.0, 1) if quick else (RATES, 2.5, 2)
    with servers(threads) as started:
        ladders: dict[str, Ladder] = {server.contender.name: {} for server in started}
        turns = {
            server.contender.name: lambda s=server: climb(s, ladders[s.contender.name], rates, seconds)
            for server in started
        }
        in_turn(turns, rounds)
    record.tables.append(load_table(ladders))
    compare(record, ladders, [server.contender for server in started], rounds)
    late = [answered.late_ms for ladder in ladders.values() for runs in ladder.values() for answered in runs]
    record.notes.append(
        f"The client sent p99 {np.quantile(np.concatenate(late), 0.99):.2f} ms after the time due (part of the latency "
        f"of all); it shares the {os.cpu_count()} cores with the server, which has {threads} threads for its model."
    )
    record.finish(save=not quick)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    told = parser.parse_args()
    main(told.quick, told.threads)
