"""The gateway's arms and split where encoders are an InferenceService: one object read, one value made."""

from functools import lru_cache

from taoemb.config import KServeConfig
from taoemb.serving.inference_service import Side, split_of
from taoemb.serving.kube import INFERENCE_SERVICES, Objects, connect
from taoemb.serving.readback import read_release
from taoemb.serving.traffic import Arm, Traffic


def kserve_traffic(
    namespace: str, name: str, config: KServeConfig | None = None, objects: Objects | None = None
) -> Traffic:
    """The arms and the split of an InferenceService as it is now.

    Before the first rollout the object does not say which release it serves; then its encoders are asked. Raises
    Missing when there is no such object, InputError when rollouts can't work with it, TaoembError when the API server
    (or such an encoder) does not answer.
    """
    config = config or KServeConfig()
    objects = objects or _connected(config.timeout_s)
    split = split_of(objects.get(INFERENCE_SERVICES, namespace, name))
    return Traffic(
        control=_arm(split.control, namespace, config),
        candidate=None if split.candidate is None else _arm(split.candidate, namespace, config),
        percent=split.percent,
        design=split.design,
        rollout=split.rollout,
        salt=split.salt,
    )


def service_url(config: KServeConfig, namespace: str, service: str) -> str:
    """Address of a Service."""
    return config.service_url.format(service=service, namespace=namespace)


def _arm(side: Side, namespace: str, config: KServeConfig) -> Arm:
    urls = tuple(service_url(config, namespace, service) for service in side.services)
    release = side.release or read_release(urls[0], model=config.model, timeout_s=config.timeout_s)
    return Arm(release, urls)


@lru_cache(maxsize=1)
def _connected(timeout_s: float) -> Objects:
    return connect(timeout_s)
