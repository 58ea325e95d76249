"""A live API server for the tests marked `cluster`: the one that KUBECONFIG names, or one started for them.

With KUBEBUILDER_ASSETS (`setup-envtest use -p path`) an etcd and a kube-apiserver run for the test, without nodes.
"""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client
from kubernetes.config import kube_config

from taoemb.errors import TaoembError
from taoemb.serving.kube import Kind, Objects

NAMESPACES = Kind("", "v1", "namespaces")
HOW = (
    "no cluster: set KUBECONFIG to a cluster's, or KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver "
    "(go run sigs.k8s.io/controller-runtime/tools/setup-envtest@latest use -p path)"
)
_TOKEN = "taoemb-test-admin"
_START_S = 90


@contextlib.contextmanager
def live_api(folder: Path) -> Iterator[Objects]:
    """A client of a live API server; skips the test and says how to get one."""
    if os.environ.get("KUBECONFIG"):
        settings = client.Configuration()
        kube_config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=settings)
        yield Objects(client.ApiClient(settings), timeout_s=30)
    elif os.environ.get("KUBEBUILDER_ASSETS"):
        with _started(Path(os.environ["KUBEBUILDER_ASSETS"]), folder) as objects:
            yield objects
    else:
        pytest.skip(HOW)


def kubeconfig(objects: Objects) -> str:
    """The text of a kubeconfig file that leads to the same API server."""
    if os.environ.get("KUBECONFIG"):
        return Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8")
    host = objects._api.configuration.host
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": host, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "test", "user": {"token": _TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
    )


@contextlib.contextmanager
def _started(assets: Path, folder: Path) -> Iterator[Objects]:
    etcd, peer, port = _free_port(), _free_port(), _free_port()
    key, tokens = folder / "accounts.pem", folder / "tokens.csv"
    key.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    tokens.write_text(f'{_TOKEN},admin,1,"system:masters"\n')
    commands = [
        [
            assets / "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        ],
        [
            assets / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        ],
    ]
    settings = client.Configuration(host=f"https://127.0.0.1:{port}", api_key={"authorization": f"Bearer {_TOKEN}"})
    settings.verify_ssl = False  # its certificate is its own
    objects = Objects(client.ApiClient(settings), timeout_s=30)
    with contextlib.ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("w"))
            process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        _wait(objects, folder)
        yield objects


def _wait(objects: Objects, folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            objects.get(NAMESPACES, "", "default")
            return
        except TaoembError as error:
            if time.monotonic() > deadline:
                pytest.fail(f"{error}; see {folder}/kube-apiserver.log")
            time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
