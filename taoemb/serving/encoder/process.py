"""An encoder server beside a job, for as long as the job needs it: for tests, the demo and local rollouts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from taoemb.hosting.process import running_server


@contextmanager
def running_encoder(
    release: Path,
    *,
    name: str = "encoder",
    port: int | None = None,
    settings: Sequence[str] = (),
    log: Path | None = None,
) -> Iterator[str]:
    """Serve the release on a loopback port (default: a free one); yields its root URL once it is ready.

    `settings` are `key=value` overrides, e.g. encoder_server.backend=openvino. The server lives no longer than the
    block and this process; see :func:`taoemb.hosting.process.running_server`.
    """
    arguments = ["serve", "encoder", "--release", str(release), "--name", name]
    for setting in ("encoder_server.linger_s=0", *settings):  # no load balancer to wait for
        arguments += ["--set", setting]
    with running_server(arguments, what="encoder", ready="/v2/health/ready", port=port, log=log) as root:
        yield root
