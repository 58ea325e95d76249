"""A judge server beside a job, for as long as the job needs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taoemb.hosting.process import running_server


@contextmanager
def running_judge(
    model: Path | str, *, name: str = "judge", threads: int | None = None, log: Path | None = None
) -> Iterator[str]:
    """Serve the judge in the folder `model` on a free loopback port; yields its base URL (…/openai/v1).

    The server lives no longer than the block and this process; see :func:`taoemb.hosting.process.running_server`.
    """
    arguments = ["judge", "serve", "--model", str(model), "--name", name]
    if threads is not None:
        arguments += ["--set", f"judge_server.threads={threads}"]
    with running_server(arguments, what="judge", ready=f"/v2/models/{name}/ready", log=log) as root:
        yield f"{root}/openai/v1"
