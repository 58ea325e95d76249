"""The rollout alone: a published release is compared with the one that serves, by live traffic."""

from kfp import dsl

from components.cluster import place, try_again
from components.rollout.component import rollout as roll_out


@dsl.pipeline(name="taoemb-rollout")
def rollout(
    release: str,
    rollout_target: str,
    rollout: str = "{}",
    rollout_storage: str = "",
    baseline: str = "",
    settings: str = "",
    volume: str = "taoemb-artefacts",
    secret: str = "taoemb-secrets",
    tolerations: list = [],  # noqa: B006 - kfp reads the default and never changes it
    node_selector: dict = {},  # noqa: B006
) -> None:
    """Start the rollout, wait for its verdict; the run fails when the release is not promoted.

    Args:
        release: Release folder, published without being made active.
        rollout_target: kserve://NAMESPACE/INFERENCESERVICE, or a folder on this machine.
        rollout: The rollout's plan as YAML text; {}: the plan's defaults.
        rollout_storage: storageUri that KServe loads the release from; needed on KServe.
        baseline: Release folder now in production; needed on this machine.
        settings: Settings as YAML text; what it does not say has its default.
        volume: On a cluster: claim that every step mounts at /mnt/taoemb.
        secret: On a cluster: Secret whose keys every step finds as files in /etc/taoemb/secrets, if there is one.
        tolerations: On a cluster: tolerations of every step's pod.
        node_selector: On a cluster: labels of the nodes that the steps run on.
    """
    task = roll_out(
        settings=settings,
        plan=rollout,
        target=rollout_target,
        storage=rollout_storage,
        control=baseline,
        folder=release,
    )
    task.set_caching_options(False)  # a deed is never taken from an earlier run
    try_again([task])
    place([task], volume, secret, tolerations, node_selector)
