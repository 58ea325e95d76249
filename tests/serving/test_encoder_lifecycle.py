"""The encoder server as a process: it drains without losing a request, and says in one line why it can't start."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from taoemb.encoder.release import Release
from taoemb.serving.encoder.process import running_encoder
from tests.serving.encoder_releases import bert_release

V1 = "/v1/models/encoder:predict"
SERVE = [sys.executable, "-m", "taoemb", "serve", "encoder", "--set", "encoder_server.threads=1"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return bert_release(tmp_path_factory.mktemp("release"))


class Shopper(threading.Thread):
    """Asks over one kept connection until the server asks to leave, and remembers every reply."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.replies, self.left = url, 0, False

    def run(self) -> None:
        with httpx.Client(timeout=60) as http:
            while not self.left:
                reply = http.post(self.url + V1, json={"instances": ["red sofa", "blue oak lamp " * 20]})
                assert reply.status_code == 200
                self.replies += 1
                self.left = reply.headers.get("connection") == "close"


@pytest.mark.slow
def test_it_drains_without_losing_a_request(release: Release, tmp_path: Path) -> None:
    log = tmp_path / "encoder.log"
    settings = ["encoder_server.linger_s=2", "encoder_server.threads=1"]
    with running_encoder(release.path, settings=settings, log=log) as url, httpx.Client(timeout=60) as http:
        shoppers = [Shopper(url) for _ in range(6)]
        for shopper in shoppers:
            shopper.start()
        ready = [http.get(f"{url}/v2/health/ready").status_code]
        pid = re.search(r"Started server process \[(\d+)\]", log.read_text())
        assert pid is not None
        os.kill(int(pid[1]), signal.SIGTERM)
        while ready[-1] == 200:
            ready.append(http.get(f"{url}/v2/health/ready").status_code)
        late = httpx.post(url + V1, json={"instances": ["usb c cable"]}, timeout=60).status_code
        for shopper in shoppers:
            shopper.join(60)
    assert ready[-1] == 503  # said before anything was refused
    assert late == 200
    assert all(shopper.left and shopper.replies for shopper in shoppers)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/v2/health/ready")
    said = log.read_text()
    assert re.search(rf"^ready: {url} serves release {release.manifest.digest} with torch$", said, re.MULTILINE)
    assert "Traceback" not in said


def test_it_ends_with_whoever_started_it(release: Release) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*SERVE, "--release", str(release.path), "--port", str(port), "--exit-with-parent", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        line = server.stdout.readline()
        assert f'"release": "{release.manifest.digest}"' in line
        assert httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200
        server.stdin.close()
        assert server.wait(60) == 0


def fails(*arguments: str) -> str:
    done = subprocess.run([*SERVE, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.strip().splitlines()
    return line


def test_what_is_no_release_is_refused_in_one_line(tmp_path: Path) -> None:
    said = f"taoemb: {tmp_path}: not a release (no readable release.json); give the folder that training wrote"
    assert fails("--release", str(tmp_path)) == said


def test_a_changed_release_is_refused(release: Release, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in release.path.rglob("*"):
        target = copy / path.relative_to(release.path)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text().replace("sofa", "soda"))
    assert "tokenizer.json was changed after the release was made" in fails("--release", str(copy))


def test_a_port_in_use_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = f"taoemb: --host 127.0.0.1 --port {port}: Address already in use; choose another"
        assert fails("--release", str(tmp_path), "--port", str(port)) == said
