"""kustomize and Helm give a cluster the same API objects; kustomize is the real one, in kubectl."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.kube_tools import Unavailable, kube_tools
from scripts.manifests import BASE, MANIFESTS, OVERLAYS, Key, Object, Overlay, chart_objects, key_of, stale, written

README = (MANIFESTS / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def _tools():
    try:
        kube_tools()
    except Unavailable as reason:
        pytest.skip(str(reason))


def built(folder: Path) -> dict[Key, Object]:
    command = [str(kube_tools().kubectl), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    trees = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
    found = {key_of(tree): tree for tree in trees}
    assert len(found) == len(trees)
    return found


def folder_of(overlay: Overlay) -> Path:
    return MANIFESTS / "base" if overlay is BASE else MANIFESTS / "overlays" / overlay.name


def compared(one: Object) -> Object:
    """What must be equal; the definition of EncoderRollout is the generated one, which carries no labels."""
    return one["spec"] if one["kind"] == "CustomResourceDefinition" else one


@pytest.mark.parametrize("overlay", [BASE, *OVERLAYS], ids=lambda overlay: overlay.name)
def test_kustomize_gives_the_objects_of_the_chart(overlay):
    expected = {key: compared(one) for key, (_, one) in chart_objects(overlay).items()}
    found = {key: compared(one) for key, one in built(folder_of(overlay)).items()}
    assert found.keys() == expected.keys()
    assert {key for key in expected if found[key] != expected[key]} == set()


def test_the_files_are_what_the_script_writes():
    assert stale(written()) == [], "run `python scripts/manifests.py`"


def test_every_overlay_is_there_and_told_of():
    folders = {folder.name for folder in (MANIFESTS / "overlays").iterdir()}
    assert folders == {overlay.name for overlay in OVERLAYS}
    for overlay in OVERLAYS:
        assert f"| `overlays/{overlay.name}` |" in README
        assert f"`ci/{overlay.values}-values.yaml`" in README


def test_another_namespace_leaves_no_word_of_this_one():
    for path, text in written("shop").items():
        said = re.findall(r"^ *namespace: (?:search|taoemb)$|kserve://search|\.search\.svc", text, re.MULTILINE)
        assert said == [], path


def test_the_readme_s_own_overlay_builds(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    target = MANIFESTS / "overlays" / "gpu-standard"
    text = example.replace("../gpu-standard", str(Path(*[".."] * len(tmp_path.resolve().parts[1:]), *target.parts[1:])))
    (tmp_path / "kustomization.yaml").write_text(text, encoding="utf-8")
    found = built(tmp_path)
    route = found["gateway.networking.k8s.io/v1", "HTTPRoute", "taoemb-gateway"]
    assert route["spec"]["hostnames"] == ["search.shop.example"]
    (container,) = found["apps/v1", "Deployment", "taoemb-gateway"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/taoemb/serving:0.1.0"
