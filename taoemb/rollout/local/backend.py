"""Rolls out between encoders on this machine: the same engine, gateway and measurement as on a cluster, without one.

DIR holds everything: config.yaml (the settings that its processes run with), traffic.json (what the gateway obeys),
processes.json and logs. Encoders and gateway outlive the command that started them; `taoemb rollout stop` ends them.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

from taoemb.config import Config
from taoemb.errors import InputError, TaoembError
from taoemb.retrieval.address import is_lite
from taoemb.rollout.backend import Candidate, Observed
from taoemb.rollout.local.processes import Processes, Wanted, free_port
from taoemb.rollout.local.search import search_as_tester
from taoemb.serving.readback import read_release
from taoemb.serving.traffic import Arm, Design, Traffic, read_traffic, write_traffic

GATEWAY = "gateway"
HOST = "127.0.0.1"
_ASK_S = 3.0
_WATCH_S = 0.5
GIVE_UP = 3


class LocalBackend:
    """The backend of one folder; `replicas` encoders an arm. Threads and commands may share the folder."""

    def __init__(self, folder: Path, config: Config, replicas: int = 1) -> None:
        self.folder, self.config, self._replicas = folder, config, replicas
        self.processes = Processes(folder)
        self._traffic_file = folder / "traffic.json"

    @property
    def config_file(self) -> Path:
        """The settings that the processes run with."""
        return self.folder / "config.yaml"

    def traffic(self) -> Traffic:
        """What the gateway obeys. Raises InputError before the first start."""
        return read_traffic(self._traffic_file)

    def gateway_url(self) -> str | None:
        """Base URL of the gateway; None before it was started."""
        gateway = self.processes.all().get(GATEWAY)
        return None if gateway is None else f"http://{HOST}:{gateway.port}"

    def serve_control(self, release: str, location: Path, port: int | None) -> None:
        """Start the control's encoders and the gateway (on `port`, default: a free one), unless they run already.

        Returns without waiting. Raises InputError when another release is the control here.
        """
        with self.processes.locked():
            if self._traffic_file.exists():
                traffic = self.traffic()
                if traffic.control.release != release:
                    raise InputError(
                        f"--control {location}: {self.folder} serves {traffic.control.release[:16]} already; give that "
                        "release, another --dir, or end it with `taoemb rollout stop`"
                    )
            arm = self._want(release, str(location))
            if not self._traffic_file.exists():
                write_traffic(self._traffic_file, Traffic(control=arm))
            port = port or free_port()
            command = (*_taoemb("serve", "gateway"), "--host", HOST, "--port", str(port))
            own = (*command, "--traffic", str(self._traffic_file.absolute()), "--config", str(self._absolute_config()))
            self.processes.add(Wanted(GATEWAY, own, port))
            self.processes.keep_running()

    def observe(self) -> Observed:
        """What the encoders answer with; processes that died are started again."""
        self.keep_alive()
        traffic = self.traffic()
        control, problem = self._read_back(traffic.control)
        candidate, other = (None, "") if traffic.candidate is None else self._read_back(traffic.candidate)
        return Observed(control, candidate, traffic.percent, "; ".join(filter(None, (problem, other))))

    def check_lives(self) -> None:
        """Raises TaoembError with the last words of a process that ends again and again."""
        for one in self.processes.all().values():
            if one.deaths >= GIVE_UP:
                said = self.processes.last_words(one.name) or "it said nothing"
                raise TaoembError(f"{one.name} stops at its start: {said} (log: {self.folder}/logs/{one.name}.log)")

    def keep_alive(self) -> None:
        """Start again what died."""
        with self.processes.locked():
            self.processes.keep_running()

    def deploy(self, candidate: Candidate, rollout: str, salt: str, design: Design) -> None:
        """Start the candidate's encoders; only testers reach them until the first shift."""
        with self.processes.locked():
            traffic = self.traffic()
            there = traffic.candidate
            if there is not None and (there.release, traffic.rollout) != (candidate.release, rollout):
                raise InputError(
                    f"{self.folder}: rollout {traffic.rollout} of {there.release[:16]} is under way; end it first"
                )
            arm = self._want(candidate.release, candidate.location)
            self.processes.keep_running()
            wanted = replace(traffic, candidate=arm, percent=0.0, rollout=rollout, salt=salt, design=design)
            if traffic != wanted:
                write_traffic(self._traffic_file, wanted)

    def fit(self, percent: float) -> str:
        """Nothing to do: each arm has the same number of encoders throughout."""
        return ""

    def shift(self, percent: float) -> None:
        """Give the candidate this share, once its digest was read back.

        Before its first share, a tester's search through the gateway must come from it: so its collection is bound too.
        """
        with self.processes.locked():
            traffic = self.traffic()
            candidate = self._must_answer(traffic)
            if traffic.percent == 0:
                search_as_tester(f"{self.gateway_url()}", self.config.gateway, candidate.release)
            write_traffic(self._traffic_file, replace(traffic, percent=percent))

    def promote(self) -> None:
        """The gateway turns to the candidate's encoders, which stay as they are; then the old ones go."""
        with self.processes.locked():
            traffic = self.traffic()
            if traffic.candidate is not None:
                self._must_answer(traffic)
                traffic = Traffic(control=traffic.candidate)
                write_traffic(self._traffic_file, traffic)
            if not is_lite(self.config.milvus):
                activate(self.config, traffic.control.release)
            self._stop_others(traffic.control.release)

    def rollback(self) -> None:
        """The gateway turns to the control alone; then the candidate's encoders go."""
        with self.processes.locked():
            traffic = self.traffic()
            if traffic != Traffic(control=traffic.control):
                write_traffic(self._traffic_file, Traffic(control=traffic.control))
            self._stop_others(traffic.control.release)

    def stop(self) -> None:
        """End all processes. A Milvus Lite file is free then, and the control's release is made the active one."""
        with self.processes.locked():
            names = [GATEWAY, *(name for name in self.processes.all() if name != GATEWAY)]
            self.processes.remove(*names)
            if self._traffic_file.exists():
                release = self.traffic().control.release
                if is_lite(self.config.milvus):
                    activate(self.config, release)
                self._traffic_file.unlink()

    def _want(self, release: str, location: str) -> Arm:
        urls = []
        for number in range(self._replicas):
            name = f"encoder-{release[:12]}-{number}"
            known = self.processes.all().get(name)
            port = known.port if known is not None else free_port()
            command = (*_taoemb("serve", "encoder"), "--release", location, "--host", HOST, "--port", str(port))
            own = (*command, "--config", str(self._absolute_config()))
            self.processes.add(Wanted(name, own, port, release))
            urls.append(f"http://{HOST}:{port}")
        return Arm(release, tuple(urls))

    def _read_back(self, arm: Arm) -> tuple[str | None, str]:
        """Digest that all replicas of an arm answer with; else None and why."""
        found = set()
        for url in arm.urls:
            try:
                found.add(read_release(url, timeout_s=_ASK_S))
            except TaoembError as error:
                return None, self._with_last_words(arm, url, str(error))
        if len(found) > 1:
            return None, f"replicas answer with different releases: {', '.join(sorted(found))}"
        return found.pop(), ""

    def _with_last_words(self, arm: Arm, url: str, problem: str) -> str:
        said = [
            self.processes.last_words(one.name)
            for one in self.processes.all().values()
            if one.release == arm.release and url.endswith(f":{one.port}")
        ]
        return f"{problem} (its log: {said[0]})" if said and said[0] else problem

    def _must_answer(self, traffic: Traffic) -> Arm:
        """The candidate, whose digest was just read back."""
        candidate = traffic.candidate
        if candidate is None:
            raise TaoembError(f"{self._traffic_file}: there is no candidate to give traffic to")
        digest, problem = self._read_back(candidate)
        if digest != candidate.release:
            raise TaoembError(problem or f"the candidate answers with {str(digest)[:16]}, not {candidate.release[:16]}")
        return candidate

    def _stop_others(self, release: str) -> None:
        names = [one.name for one in self.processes.all().values() if one.release not in ("", release)]
        self.processes.remove(*names)

    def _absolute_config(self) -> Path:
        return self.config_file.absolute()


@contextmanager
def keeping_alive(backend: LocalBackend) -> Iterator[None]:
    """Start again what dies while the block works on something else, e.g. waits for the judge."""
    ended = Event()

    def work() -> None:
        while not ended.wait(_WATCH_S):
            backend.keep_alive()

    thread = Thread(target=work, name="keeping-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def activate(config: Config, release: str) -> None:
    """Make a bound release the active one, if it is not."""
    from taoemb.retrieval.milvus import MilvusStore

    with MilvusStore(config.milvus) as store:
        entry = store.binding(release)
        active = store.registry.active(config.milvus.alias)
        if active is None or active.digest != entry.digest:
            store.activate(entry)


def _taoemb(*words: str) -> Sequence[str]:
    return (sys.executable, "-m", "taoemb", *words)
