"""What a server process does before it serves: take its port, watch who started it, import KServe."""

import os
import signal
import socket
import sys
import threading
from types import ModuleType

from taoemb.errors import InputError


def import_kserve() -> ModuleType:
    """The kserve package; while it is imported it reads the command line, which is ours and not its own."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        import kserve
        import kserve.model_server
    finally:
        sys.argv = arguments
    return kserve


def check_port(host: str, port: int) -> None:
    """Find out before the model is loaded. Raises InputError when nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"--host {host} --port {port}: {error.strerror or error}; choose another") from None


def stop_with_parent() -> None:
    """Send this process SIGTERM when its standard input ends.

    Whoever started it holds the other end, and may die without a word.
    """
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()


def _stop_at_end_of_input() -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
