"""A rollout's backend where encoders are an InferenceService: reads it, asks its encoders, and patches it.

Each write names the version that was read and is made again from a fresh read when somebody else was faster; what the
object says, and nothing remembered here, decides what is still to be done. So every method may be repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from taoemb.config import KServeConfig
from taoemb.errors import InputError, TaoembError
from taoemb.rollout.backend import Candidate, Observed
from taoemb.rollout.kserve import knative, scale, standard
from taoemb.serving.inference_service import (
    CONTROL_STORAGE,
    RELEASE,
    ROLLOUT,
    Mode,
    Side,
    mode_of,
    notes,
    rollout_entry,
    split_of,
    storage_uri,
)
from taoemb.serving.kube import INFERENCE_SERVICES, Conflict, Json, Missing, Objects
from taoemb.serving.readback import read_release
from taoemb.serving.traffic import Design
from taoemb.serving.traffic_kserve import service_url

_TRIES = 5  # writes that meet another writer
_REPLICAS = 3  # asked behind a Service, each over its own connection

Patch = Callable[[Json], Json | None]


@dataclass(frozen=True)
class Collections:
    """What the vector store has to do with a rollout."""

    check_bound: Callable[[str], None]
    """Raises TaoembError unless the release of that digest is bound to a collection."""
    activate: Callable[[str], None]
    """Makes it the active release there."""


class KServeBackend:
    """Moves the rollout of that name on one InferenceService; implements taoemb.rollout.backend.Backend."""

    def __init__(
        self,
        objects: Objects,
        namespace: str,
        name: str,
        rollout: str,
        *,
        percents: Sequence[float],
        collections: Collections,
        config: KServeConfig | None = None,
    ) -> None:
        """`percents` are the shares that the plan will ask for; ones that KServe can't do are refused by `deploy`."""
        self._objects, self._namespace, self._name, self._rollout = objects, namespace, name, rollout
        self._percents, self._collections = percents, collections
        self._config = config or KServeConfig()

    def observe(self) -> Observed:
        """Read the object, and the digests from its encoders' replies. Raises Missing when there is no object."""
        service = self._read()
        split = split_of(service)
        if mode_of(service) == "Knative" and knative.returning(service):
            return Observed(None, None, 0, "the control's new revision does not have the traffic yet")
        control, control_said = self._ask(split.control)
        if split.rollout != self._rollout or split.candidate is None:
            here = f"rollout {split.rollout} is under way here" if split.rollout else "no candidate stands here"
            gone = f"somebody else took the candidate out of InferenceService {self._namespace}/{self._name}: {here}"
            return Observed(control, None, 0, control_said or here, gone)
        edited = _other_control(service, split.control)
        candidate, candidate_said = self._ask(split.candidate)
        if mode_of(service) == "Knative" and candidate == split.control.release:
            candidate, candidate_said = None, "the candidate's revision is not ready yet"
        said = "; ".join(filter(None, (control_said, candidate_said)))
        return Observed(control, candidate, split.percent, said, edited)

    def deploy(self, candidate: Candidate, rollout: str, salt: str, design: Design) -> None:
        """Start the candidate beside the control with no traffic. Raises InputError when that is impossible here."""
        service = self._read()
        split = split_of(service)
        if split.rollout == rollout:
            return
        self._check_percents(mode_of(service))
        _writes(service).check(service, candidate)
        self._collections.check_bound(candidate.release)
        control, said = self._ask(split.control)
        if control is None:
            raise TaoembError(f"the control does not answer: {said}")
        self._patch(lambda found: _writes(found).deploy(found, candidate, rollout, salt, design, control))

    def fit(self, percent: float) -> str:
        """Give the candidate pods for a share (Standard mode; Knative scales each revision); what it still lacks.

        Where KServe has made no Deployment of an arm's name, nothing can be counted, and nothing is waited for.
        """
        service = self._read()
        split = split_of(service)
        if mode_of(service) != "Standard" or split.rollout != self._rollout or split.candidate is None:
            return ""
        canary = rollout_entry(service, self._rollout)
        bounds = None if canary is None else scale.remembered(canary["predictor"])
        control, candidate = self._deployment(split.control), self._deployment(split.candidate)
        if canary is None or bounds is None or control is None or candidate is None:
            return ""
        wanted = scale.pods_for(
            percent,
            split.percent,
            control=scale.replicas(control),
            present=int(canary["predictor"].get("minReplicas", scale.FIRST)),
            both=split.design == "interleaving",
            bounds=bounds,
        )
        self._patch(lambda found: standard.resize(found, self._rollout, wanted))
        ready = scale.ready(candidate)
        return "" if ready >= wanted else f"{ready} of the {wanted} pods that the candidate needs are ready"

    def shift(self, percent: float) -> None:
        """Give the candidate this share, after reading its digest back and checking that it is bound."""
        split = self._verified()
        self._collections.check_bound(str(split.release))
        self._patch(lambda found: _writes(found).shift(found, self._rollout, int(percent)))

    def promote(self) -> None:
        """The candidate becomes the control without a restart, then the active release of the vector store."""
        service = self._read()
        if split_of(service).rollout == self._rollout:
            self._verified()
            self._patch(lambda found: _writes(found).promote(found, self._rollout))
            service = self._read()
        said = notes(service["spec"]["predictor"])
        if said.get(ROLLOUT) == self._rollout:
            self._collections.activate(said[RELEASE])

    def rollback(self) -> None:
        """All traffic to the control, then the candidate's encoders go; nothing when the rollout is not there."""
        self._patch(lambda found: _writes(found).rollback(found, self._rollout))
        service = self._read()
        if mode_of(service) == "Knative" and knative.returning(service):
            control = split_of(service).control
            latest = service_url(self._config, self._namespace, control.services[-1])
            if self._digest(latest, _REPLICAS)[0] == control.release:
                self._patch(knative.finish_rollback)

    def _verified(self) -> Side:
        """The candidate, whose digest was read back just now. Raises TaoembError when it can't be."""
        service = self._read()
        split = split_of(service)
        if split.rollout != self._rollout or split.candidate is None:
            raise TaoembError(f"rollout {self._rollout} has no candidate on {self._namespace}/{self._name}")
        found, said = self._ask(split.candidate)
        if found != split.candidate.release:
            raise TaoembError(f"the candidate answers with {found or said}, not with {split.candidate.release}")
        if mode_of(service) == "Knative" and self._ask(split.control)[0] is None:
            raise TaoembError("the route to the control's revision (prev-…) does not answer yet")
        return split.candidate

    def _deployment(self, side: Side) -> Json | None:
        try:
            return self._objects.get(scale.DEPLOYMENTS, self._namespace, side.services[0])
        except Missing:
            return None

    def _read(self) -> Json:
        return self._objects.get(INFERENCE_SERVICES, self._namespace, self._name)

    def _patch(self, make: Patch) -> None:
        """Write what `make` says of a fresh read; again when somebody else wrote in between."""
        for _ in range(_TRIES):
            service = self._read()
            body = make(service)
            if body is None:
                return
            body = {"metadata": {"resourceVersion": service["metadata"]["resourceVersion"]}, **body}
            try:
                self._objects.patch(INFERENCE_SERVICES, self._namespace, self._name, body)
                return
            except Conflict:
                continue
        raise TaoembError(f"{self._namespace}/{self._name}: others write it all the time; {_TRIES} tries failed")

    def _ask(self, side: Side) -> tuple[str | None, str]:
        return self._digest(self._url(side), _REPLICAS)

    def _digest(self, url: str, replicas: int) -> tuple[str | None, str]:
        """Digest, or None and why there is none."""
        config = self._config
        try:
            return read_release(url, model=config.model, timeout_s=config.timeout_s, replicas=replicas), ""
        except TaoembError as error:
            return None, str(error)

    def _url(self, side: Side) -> str:
        return service_url(self._config, self._namespace, side.services[0])

    def _check_percents(self, mode: Mode) -> None:
        for percent in self._percents:
            if percent != int(percent):
                raise InputError(f"step of {percent} %: KServe splits in whole percents")
            if mode == "Knative" and percent == 100:
                raise InputError("step of 100 %: Knative then has no way back to the control; use at most 99")


def _other_control(service: Json, control: Side) -> str:
    """What somebody else made of the control, in words; empty when it is what the rollout found (Standard mode)."""
    if mode_of(service) != "Standard":
        return ""
    entry = rollout_entry(service)
    began = notes(entry["predictor"]).get(CONTROL_STORAGE) if entry is not None else None
    now = storage_uri(service)
    if began in (None, now):
        return ""
    return f"somebody else changed the control in the middle: it loaded {control.release} from {began}, and now {now}"


def _writes(service: Json) -> ModuleType:
    return standard if mode_of(service) == "Standard" else knative
