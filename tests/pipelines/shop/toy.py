"""A pipeline of small steps that stands in for training: it counts its own runs, fails and waits when told to."""

from typing import NamedTuple

from kfp import dsl

from taoemb.jobs.pipelines import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def look(folder: str) -> str:
    """Say what the folder's one file holds."""
    from pathlib import Path

    return (Path(folder) / "input.txt").read_text()


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def make(
    folder: str,
    text: str,
    times: int,
    release: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
):
    """Write one artefact of every kind, and a line to the folder's log of runs."""
    from pathlib import Path

    with (Path(folder) / "runs.txt").open("a") as log:
        log.write("made\n")
    print("making", text)
    Path(release.path).mkdir(parents=True)
    (Path(release.path) / "weights.txt").write_text(text * times)
    Path(metrics.path).write_text('{"score": 1}')
    metrics.log_metric("score", 1.0)
    Path(report.path).write_text("<p>report</p>")


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def check(folder: str, release: dsl.Input[dsl.Model], passes: bool, wait: float, workspace: str):
    """Fail when told to, after a wait; when stopped, say whether the helper was still there."""
    import signal
    import subprocess
    import time
    from pathlib import Path

    from taoemb.errors import InputError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    helper = subprocess.Popen(["sleep", "100"])
    (Path(folder) / "waiting.txt").write_text(workspace)
    try:
        time.sleep(wait)
    except KeyboardInterrupt:
        time.sleep(0.5)
        (Path(folder) / "stopped.txt").write_text(f"helper: {helper.poll()}")
        raise
    helper.kill()
    if not passes:
        raise InputError("the release is not good enough")


@dsl.pipeline(name="toy", description="Small steps.")
def toy(
    folder: str,
    times: int = 2,
    passes: bool = True,
    wait: float = 0.0,
    workspace: str = "",
    tags: list = [],  # noqa: B006
    extra: dict = {},  # noqa: B006
) -> NamedTuple("Outputs", release=dsl.Model, metrics=dsl.Metrics, report=dsl.HTML):
    """Small steps.

    Args:
        folder: Where the input lies.
        times: How often the text stands in the release.
        passes: Whether the last step succeeds.
        wait: Seconds that the last step waits.
        workspace: Folder that outlives a step.
        tags: Any list.
        extra: Any mapping.
    """
    looked = look(folder=folder)
    looked.set_caching_options(False)
    made = make(folder=folder, text=looked.output, times=times)
    made.set_display_name("make artefacts")
    again = make(folder=folder, text=looked.output, times=1)
    again.set_display_name("make others")
    checked = check(folder=folder, release=made.outputs["release"], passes=passes, wait=wait, workspace=workspace)
    checked.set_retry(2, backoff_duration="600s")
    again.after(made)
    checked.after(again)
    return NamedTuple("Outputs", release=dsl.Model, metrics=dsl.Metrics, report=dsl.HTML)(
        made.outputs["release"], made.outputs["metrics"], made.outputs["report"]
    )
