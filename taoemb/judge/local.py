"""A judge server beside a job, for as long as the job needs it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from taoemb.config import JudgeConfig
from taoemb.errors import InputError
from taoemb.hosting.process import running_server
from taoemb.judge.client import JudgeClient

LOCAL_BATCH, LOCAL_TIMEOUT_S = 64, 300.0  # of requests to a judge served here, perhaps on a busy machine


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


@contextmanager
def asked_judge(config: JudgeConfig, judge: Path | None, command: str) -> Iterator[JudgeClient]:
    """A client of the endpoint `config.url`, or of the judge in the folder `judge`, which is served for the block.

    Raises InputError, in the name of `command`, unless exactly one of them is given.
    """
    if (config.url is None) == (judge is None):
        raise InputError(f"{command} needs one judge: give --judge-url URL or --judge DIR")
    if judge is not None and not Path(judge).is_dir():
        raise InputError(f"--judge {judge}: no such folder; give one written by taoemb judge train")
    serving: AbstractContextManager[str | None] = nullcontext(config.url) if judge is None else running_judge(judge)
    with serving as url, JudgeClient(_endpoint(config, url, judge)) as client:
        yield client


def _endpoint(config: JudgeConfig, url: str | None, judge: Path | None) -> JudgeConfig:
    if judge is None:
        return config
    local = {"url": url, "release": None, "api_key_file": None, "batch_size": LOCAL_BATCH, "concurrency": 4}
    return config.model_copy(update=local | {"timeout_s": max(config.timeout_s, LOCAL_TIMEOUT_S)})
