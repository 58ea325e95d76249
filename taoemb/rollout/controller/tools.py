"""What the controller works with in earnest: KServe, the vector store, the judge and the events database."""

import threading
from typing import Any

from taoemb.config import Config
from taoemb.rollout.clock import Clock
from taoemb.rollout.controller.reconcile import Tools
from taoemb.rollout.controller.resource import Resource
from taoemb.rollout.engine import Look
from taoemb.rollout.kserve.backend import Collections, KServeBackend
from taoemb.rollout.local.backend import activate
from taoemb.rollout.measurement.looking import Looker
from taoemb.rollout.plan import Plan
from taoemb.rollout.state import RolloutState, to_json
from taoemb.rollout.verdict import Verdict
from taoemb.serving.events.store import EventStore
from taoemb.serving.kube import Objects


def open_tools(objects: Objects, config: Config) -> Tools:
    """The tools that the settings name; the database and the judge are opened when they are first needed."""
    records = Records(config)
    return Tools(
        objects=objects,
        backend=lambda resource, plan: kserve_backend(objects, config, resource, plan),
        look=records.look,
        record=records.record,
        clock=Clock(records.now),
    )


def kserve_backend(objects: Objects, config: Config, resource: Resource, plan: Plan) -> KServeBackend:
    """The backend of one EncoderRollout."""
    return KServeBackend(
        objects,
        resource.namespace,
        resource.inference_service,
        resource.rollout,
        percents=[step.percent for step in plan.steps],
        collections=Collections(
            check_bound=lambda release: check_bound(config, release), activate=lambda release: activate(config, release)
        ),
        config=config.kserve,
    )


def check_bound(config: Config, release: str) -> None:
    """Load the release's collection, so that the gateway can search it. Raises InputError unless it is bound to one."""
    from taoemb.retrieval.milvus import MilvusStore

    with MilvusStore(config.milvus) as store:
        store.load_release(release)


def reward_judges(config: Config, *releases: str) -> set[str]:
    """Digests of the judges that gave reward to these releases, as the registry knows them."""
    from taoemb.retrieval.milvus import MilvusStore

    with MilvusStore(config.milvus) as store:
        manifests: list[Any] = [store.binding(release).manifest for release in releases]
    return {judge for manifest in manifests for judge in (manifest.get("training") or {}).get("reward_judges", ())}


class Records:
    """The events database, and the lookers of the rollouts under way, each with what it has read so far."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._opened: EventStore | None = None
        self._lookers: dict[str, Looker] = {}

    def look(self, resource: Resource, plan: Plan) -> Look:
        """The look of one EncoderRollout; opens nothing before it is called."""

        def look(state: RolloutState, now: float) -> Verdict:
            return self._looker(plan, state)(state, now)

        return look

    def record(self, plan: Plan, state: RolloutState, now: float) -> None:
        """Keep the state in the events database, where `taoemb rollout report` reads it."""
        records = self._store().rollouts
        known = records.read(state.name)
        if known is None:
            records.create(state.name, plan.model_dump(mode="json"), to_json(state), now)
        else:
            records.update(known, to_json(state), now)
        if state.ended:
            self._forget(state.name)

    def now(self) -> float:
        """Unix seconds by the database's clock."""
        return self._store().now()

    def _store(self) -> EventStore:
        with self._lock:
            if self._opened is None:
                self._opened = EventStore(self._config.events)
            return self._opened

    def _looker(self, plan: Plan, state: RolloutState) -> Looker:
        looker = self._lookers.get(state.name)
        if looker is None:
            judges = reward_judges(self._config, state.control, state.candidate.release)
            looker = self._lookers[state.name] = Looker(self._store(), self._config, plan, judges)
        return looker

    def _forget(self, name: str) -> None:
        looker = self._lookers.pop(name, None)
        if looker is not None:
            looker.__exit__(None, None, None)
