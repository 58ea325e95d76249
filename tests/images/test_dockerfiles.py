"""The Dockerfiles, linted by hadolint and held to what the chart's pods need; none is built here."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from scripts.image_locks import IMAGES, LOCKED, ROOT

NAMES = [image.name for image in LOCKED]
HADOLINT = Path(sys.executable).with_name("hadolint")
BASE_MANIFESTS = ROOT / "manifests" / "base"


def stages(name: str) -> list[list[tuple[str, str]]]:
    """(instruction, value) of each stage, the arguments before the first FROM left out."""
    parser = DockerfileParser(str(IMAGES / name / "Dockerfile"), env_replace=False)
    found: list[list[tuple[str, str]]] = []
    for one in parser.structure:
        if one["instruction"] == "FROM":
            found.append([])
        if found and one["instruction"] != "COMMENT":
            found[-1].append((one["instruction"], one["value"]))
    return found


def values(name: str, instruction: str, stage: int = -1) -> list[str]:
    return [value for found, value in stages(name)[stage] if found == instruction]


@pytest.mark.parametrize("name", NAMES)
def test_hadolint_finds_nothing(name):
    command = [str(HADOLINT), "--no-color", "--failure-threshold", "style", str(IMAGES / name / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_would_find_something(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nADD . /src\n", encoding="utf-8")
    done = subprocess.run([str(HADOLINT), str(tmp_path / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert {"DL3007", "DL3020"} <= set(re.findall(r"DL\d+", done.stdout))


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_stands_on_one_base_that_can_be_pinned(name):
    bases = [values(name, "FROM", stage)[0].split()[0] for stage in range(len(stages(name)))]
    assert bases == ["${BASE}"] * 2
    (default,) = re.findall(r"^ARG BASE=(\S+)$", (IMAGES / name / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    image, _, tag = default.partition(":")
    assert (image, tag.startswith("3.11-slim-")) == ("python", True)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_stage_runs_as_the_user_of_the_pods(name):
    (user,) = values(name, "USER")
    manifest = (BASE_MANIFESTS / "gateway" / "deployment.yaml").read_text(encoding="utf-8")
    deployment = next(tree for tree in yaml.safe_load_all(manifest) if tree["kind"] == "Deployment")
    security = deployment["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["runAsUser"] > 0
    (created,) = re.findall(r"useradd --uid (\d+)", " ".join(values(name, "RUN")))
    assert int(created) == security["runAsUser"]


@pytest.mark.parametrize("name", NAMES)
def test_only_tmp_is_written_to(name):
    (env,) = values(name, "ENV")
    assert "HOME=/tmp" in env.split()
    assert values(name, "WORKDIR") == ["/tmp"]
    assert values(name, "VOLUME") == []


@pytest.mark.parametrize("name", NAMES)
def test_the_command_is_run_without_a_shell(name):
    assert [json.loads(value) for value in values(name, "ENTRYPOINT")] == [["taoemb"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_last_stage_builds_nothing(name):
    commands = " ".join(values(name, "RUN"))
    tools = {"pip", "gcc", "g++", "make", "build-essential", "git", "curl", "wget"}
    assert tools & set(commands.split()) == set()
    assert [word for word in commands.split() if word.endswith("-dev")] == []
    assert "pip uninstall --yes pip" in values(name, "RUN", 0)[-1]


@pytest.mark.parametrize("name", NAMES)
def test_packages_come_by_hash(name):
    installs = [line for run in values(name, "RUN", 0) for line in run.split("&&") if "pip install" in line]
    of_locks = [line for line in installs if "--requirement" in line]
    assert len(installs) - len(of_locks) == 1, "besides the locks, only the project itself"
    for line in of_locks:
        assert {"--require-hashes", "--no-deps"} <= set(line.split())


@pytest.mark.parametrize("name", NAMES)
def test_labels_say_what_it_is(name):
    text = " ".join(values(name, "LABEL"))
    found = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", text))
    assert found == {"title", "description", "version", "revision", "licenses"}
    version = next(line for line in (ROOT / "pyproject.toml").read_text("utf-8").splitlines() if "version = " in line)
    assert values(name, "ARG")[0] == f"VERSION={json.loads(version.partition('= ')[2])}"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_is_there_and_in_the_context(name):
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    kept = [line[1:] for line in ignored if line.startswith("!")]
    for stage in range(2):
        for value in values(name, "COPY", stage):
            if value.startswith("--from="):
                continue
            *sources, _ = value.replace("${TORCH}", "cuda").split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert any(source == one or fnmatch(source, f"{one}/*") for one in kept), source


def test_the_context_holds_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(line for line in rules if line.startswith("!")) == [
        "!README.md",
        "!images",
        "!pyproject.toml",
        "!taoemb",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_secret_is_asked_for(name):
    text = (IMAGES / name / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"token|password|secret|credential|api_?key", text, re.IGNORECASE) is None


def test_the_trainer_starts_the_nodes_of_the_chart_s_mpi_runtime():
    runtimes = list(yaml.safe_load_all((BASE_MANIFESTS / "training" / "runtimes.yaml").read_text(encoding="utf-8")))
    (mpi,) = [one["spec"] for one in runtimes if "mpi" in one.get("spec", {}).get("mlPolicy", {})]
    home = "/home/mpiuser"
    assert mpi["mlPolicy"]["mpi"]["sshAuthMountPath"] == f"{home}/.ssh"
    node = mpi["template"]["spec"]["replicatedJobs"][-1]["template"]["spec"]["template"]["spec"]["containers"][0]
    assert [*node["command"], *node["args"]] == ["/usr/sbin/sshd", "-De", "-f", f"{home}/.sshd_config"]
    assert f"images/trainer/sshd_config {home}/.sshd_config" in values("trainer", "COPY")
    (setup,) = values("trainer", "RUN")
    assert "--create-home" in setup
    assert "mpiuser" in setup
    server, client = ((IMAGES / "trainer" / file).read_text("utf-8").split() for file in ("sshd_config", "ssh_config"))
    assert server[server.index("Port") + 1] == client[client.index("Port") + 1] == "2222"
    assert f"{home}/.ssh/id_rsa" in server
