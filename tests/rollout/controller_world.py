"""A controller over the fake API server and the fake KServe, with looks that follow a script."""

import threading
import time
from collections.abc import Callable

from taoemb.config import ControllerConfig
from taoemb.rollout.backend import Candidate
from taoemb.rollout.controller.health import Health
from taoemb.rollout.controller.reconcile import Tools
from taoemb.rollout.controller.resource import new_resource
from taoemb.rollout.controller.run import Controller
from taoemb.rollout.kserve.backend import Collections, KServeBackend
from taoemb.rollout.plan import Plan, Step
from taoemb.rollout.state import RolloutState
from taoemb.rollout.verdict import Outcome, Reason, Verdict
from tests.rollout.fake_api import Body, FakeApi
from tests.rollout.fake_kserve import CANDIDATE, CANDIDATE_URI, NAME, NAMESPACE, FakeKServe, inference_service

SETTINGS = ControllerConfig(poll_s=0.01, backoff_s=0.05, lease_s=1, renew_s=0.6, retry_s=0.1, port=0)
PLAN = Plan(steps=(Step(percent=1), Step(percent=50)), look_every_s=0.001)
RELEASE = Candidate(CANDIDATE, CANDIDATE_URI)
ROLLOUT = "first"


class ControllerWorld:
    """The cluster, and what the looks of its rollouts will say."""

    def __init__(self, api: FakeApi, kserve: FakeKServe, mode: str = "Standard") -> None:
        self.api, self.kserve = api, kserve
        self.script: Callable[[RolloutState], Outcome] = lambda state: "promote" if state.step else "continue"
        self.units = 0
        self.recorded: list[RolloutState] = []
        self.health = Health(60)
        self.seen_percents: list[int] = []
        """The candidate's share after each write of the InferenceService; Standard mode."""
        api.after_write.append(self._watch)
        api.put("inferenceservices", inference_service(mode))

    def tools(self, percents=None) -> Tools:
        collections = Collections(lambda release: None, lambda release: None)

        def backend(resource, plan):
            return KServeBackend(
                self.api.client(),
                resource.namespace,
                resource.inference_service,
                resource.rollout,
                percents=[step.percent for step in plan.steps],
                collections=collections,
                config=self.kserve.config,
            )

        return Tools(self.api.client(), backend, lambda resource, plan: self._look, self._record)

    def controller(self, leading=lambda: True) -> Controller:
        return Controller(self.tools(), SETTINGS, leading=leading, health=self.health)

    def begin(self, name: str = ROLLOUT, plan: Plan = PLAN, service: str = NAME) -> None:
        self.api.put("encoderrollouts", new_resource(NAMESPACE, name, service, RELEASE, plan))

    def rollout(self, name: str = ROLLOUT) -> Body:
        return self.api.get("encoderrollouts", NAMESPACE, name)

    def status(self, name: str = ROLLOUT) -> Body:
        return self.rollout(name).get("status", {})

    def condition(self, kind: str, name: str = ROLLOUT) -> str:
        found = {one["type"]: one["status"] for one in self.status(name).get("conditions", ())}
        return found.get(kind, "")

    def service(self) -> Body:
        return self.api.get("inferenceservices", NAMESPACE, NAME)

    def events(self) -> list[Body]:
        return self.api.all("events", NAMESPACE)

    def run_until(self, done: Callable[[], bool], controller: Controller | None = None, timeout_s: float = 60) -> None:
        """Sweep until `done`; fails when that takes too long."""
        controller = controller or self.controller()
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, f"still {self.status()}"
            controller.sweep()
            controller.settle(30)
            threading.Event().wait(0.002)

    def ended(self, name: str = ROLLOUT) -> bool:
        return self.status(name).get("phase") in ("Promoted", "RolledBack", "Inconclusive", "Failed")

    def _look(self, state: RolloutState, now: float) -> Verdict:
        outcome = self.script(state)
        reason = Reason("item_goodrate", outcome, f"the gain says {outcome}")
        return Verdict(outcome, [reason], next_step=outcome == "continue", units=self.units)

    def _record(self, plan: Plan, state: RolloutState, now: float) -> None:
        self.recorded.append(state)

    def _watch(self, body: Body) -> None:
        if body.get("kind") == "InferenceService":
            self.seen_percents.append(sum(entry["trafficPercent"] for entry in body["spec"].get("canary", [])))
