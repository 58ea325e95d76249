"""The rollout alone: a published release is compared with the one that serves, by live traffic."""

from kfp import dsl

from components.rollout.component import rollout as roll_out


@dsl.pipeline(name="taoemb-rollout")
def rollout(
    release: str,
    rollout_target: str,
    rollout: str = "{}",
    rollout_storage: str = "",
    baseline: str = "",
    settings: str = "",
) -> None:
    """Start the rollout, wait for its verdict; the run fails when the release is not promoted.

    Args:
        release: Release folder, published without being made active.
        rollout_target: kserve://NAMESPACE/INFERENCESERVICE, or a folder on this machine.
        rollout: The rollout's plan as YAML text; {}: the plan's defaults.
        rollout_storage: storageUri that KServe loads the release from; needed on KServe.
        baseline: Release folder now in production; needed on this machine.
        settings: Settings as YAML text; what it does not say has its default.
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
    task.set_retry(2, backoff_duration="30s", backoff_factor=2.0)  # evicted pods; it goes on with what is there
