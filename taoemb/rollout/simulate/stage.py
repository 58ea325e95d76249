"""Where a simulated rollout plays: the real gateway over a real Milvus Lite file, simulated encoders and judge.

Everything lies in one folder and runs on loopback. `SimulatedBackend` is the place as the engine sees it.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from taoemb.config import Config, MilvusConfig, dump_config
from taoemb.encoder.manifest import collection_name
from taoemb.errors import InputError, TaoembError
from taoemb.hosting.process import running_server
from taoemb.retrieval.fill import record
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.registry import CollectionEntry, ReleaseEntry, now
from taoemb.retrieval.rows import fingerprint, item_rows, spans, with_vectors
from taoemb.rollout.backend import Candidate, Observed
from taoemb.rollout.simulate.scenario import Scenario, Victim
from taoemb.rollout.simulate.servers import LoopbackServer
from taoemb.rollout.simulate.world import ARMS, DIMENSION, World
from taoemb.serving.readback import read_release
from taoemb.serving.traffic import Arm, ArmName, Design, Traffic, read_traffic, write_traffic

_ITEMS = "simulated item encoder"
_WATCH_S = 0.02
Releases = Mapping[ArmName, str]


def release_digests(seed: int) -> Releases:
    """Digests of the two simulated releases."""
    return {arm: hashlib.sha256(f"simulated {arm} {seed}".encode()).hexdigest() for arm in ARMS}


def publish_world(world: World, config: MilvusConfig, releases: Releases) -> str:
    """Fill a collection with the world's items and bind both releases to it; returns its name."""
    data = world.truth.data
    rows = item_rows(data.items, "{title}", data.root)
    digest = hashlib.sha256(f"{_ITEMS} {fingerprint(rows.hashes())}".encode()).hexdigest()
    name = collection_name(config.prefix, digest)
    with MilvusStore(config) as store:
        store.create_collection(name, DIMENSION, "cosine", rows.signals, digest)
        for low, high in spans(0, len(rows), config.batch):
            entities = [entity for entity, _ in rows.read(low, high)]
            store.upsert(name, with_vectors(entities, world.item_vectors_ND[low:high]))
        store.flush(name)
        record(store, CollectionEntry(name, digest, "ready", fingerprint(rows.hashes())))
        entries = {
            arm: ReleaseEntry(
                digest=release,
                item_encoder_digest=digest,
                collection=name,
                alias=config.alias,
                status="staged",
                location="",
                items=len(rows),
                published_at=now(),
                manifest={"dimension": DIMENSION},
            )
            for arm, release in releases.items()
        }
        with store.talking("bind the simulated releases"):
            store.registry.write(list(entries.values()))
        store.activate(entries["control"])
    return name


@contextmanager
def running_gateway(folder: Path, config: Config) -> Iterator[str]:
    """The search gateway in a process of its own, with its settings and log in `folder`; yields its URL."""
    settings = folder / "gateway.yaml"
    settings.write_text(dump_config(config), encoding="utf-8")
    arguments = ["serve", "gateway", "--config", str(settings)]
    with running_server(arguments, what="gateway", ready="/readyz", log=folder / "gateway.log") as url:
        yield url


@dataclass
class SimulatedBackend:
    """Moves the traffic between two simulated encoders; never starts or stops them, that is the weather's part."""

    traffic: Path
    urls: Mapping[ArmName, str]
    clock: Callable[[], float]
    """The simulation's time, 0 to 1."""
    shares: list[tuple[float, float]] = field(default_factory=list)
    """(time, the candidate's share in percent from then on)."""

    def open(self, control: str) -> None:
        """All traffic to the control."""
        self._write(Traffic(control=Arm(control, (self.urls["control"],))))

    def observe(self) -> Observed:
        """What both encoders answer with."""
        traffic = read_traffic(self.traffic)
        control, problem = _digest(traffic.control)
        candidate, other = (None, "") if traffic.candidate is None else _digest(traffic.candidate)
        return Observed(control, candidate, traffic.percent, "; ".join(filter(None, (problem, other))))

    def deploy(self, candidate: Candidate, rollout: str, salt: str, design: Design) -> None:
        """Name the candidate, without traffic."""
        arm = Arm(candidate.release, (self.urls["candidate"],))
        traffic = replace(read_traffic(self.traffic), candidate=arm, rollout=rollout, salt=salt, design=design)
        self._write(replace(traffic, percent=0.0))

    def fit(self, percent: float) -> str:
        """Nothing to do: simulated servers have room for everybody."""
        return ""

    def shift(self, percent: float) -> None:
        """Give the candidate this share."""
        traffic = read_traffic(self.traffic)
        if traffic.candidate is None or _digest(traffic.candidate)[0] != traffic.candidate.release:
            raise TaoembError("the simulated candidate does not answer with its digest just now")
        self._write(replace(traffic, percent=percent))

    def promote(self) -> None:
        """The candidate becomes the control."""
        traffic = read_traffic(self.traffic)
        if traffic.candidate is not None:
            self._write(Traffic(control=traffic.candidate))

    def rollback(self) -> None:
        """All traffic to the control."""
        self._write(Traffic(control=read_traffic(self.traffic).control))

    def _write(self, traffic: Traffic) -> None:
        write_traffic(self.traffic, traffic)
        self.shares.append((self.clock(), traffic.percent))


def _digest(arm: Arm) -> tuple[str | None, str]:
    try:
        return read_release(arm.urls[0]), ""
    except TaoembError as error:
        return None, str(error)


class Weather:
    """Starts the servers, takes them away and brings them back as the scenario says (a context manager).

    Leaving it raises what went wrong meanwhile.
    """

    def __init__(
        self, scenario: Scenario, servers: Mapping[Victim, LoopbackServer], clock: Callable[[], float]
    ) -> None:
        self._scenario, self._servers, self._clock = scenario, servers, clock
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="weather")
        self._work: Future[None] | None = None

    def __enter__(self) -> "Weather":
        for server in self._servers.values():
            server.up()
        self._work = self._pool.submit(self._run)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._pool.shutdown()
        for server in self._servers.values():
            server.down()
        if self._work is not None and kind is None:
            self._work.result()

    def _run(self) -> None:
        while not self._over.wait(_WATCH_S):
            for victim, server in self._servers.items():
                out = self._scenario.is_out(victim, self._clock())
                if out and server.is_up:
                    server.down()
                elif not out and not server.is_up:
                    server.up()


def empty_folder(out: Path) -> None:
    """Make the folder. Raises InputError when it holds something."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"--out {out}: is not empty; give a new folder")
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror or error}; give another folder") from None
