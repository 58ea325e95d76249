"""Compiling: what a source becomes, when that is an error, and that the result never depends on when or where."""

import shutil
from pathlib import Path

import pytest

from taoemb.errors import InputError
from taoemb.jobs.pipeline_compile import compile_pipelines
from taoemb.jobs.pipelines import BASE_IMAGE, Output, Step, read_pipeline

TOY = Path(__file__).parent / "shop" / "toy.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pipelines"
    made.mkdir()
    shutil.copy(TOY, made)
    return made


def test_compiles_the_same_bytes_again(folder, tmp_path):
    first = compile_pipelines(folder)
    assert [(entry.name, entry.state) for entry in first] == [("toy", "written")]
    text = (folder / "toy.yaml").read_text()
    assert [entry.state for entry in compile_pipelines(folder)] == ["unchanged"]
    elsewhere = tmp_path / "elsewhere" / "pipelines"
    shutil.copytree(folder, elsewhere, ignore=shutil.ignore_patterns("*.yaml"))
    compile_pipelines(elsewhere)
    assert (elsewhere / "toy.yaml").read_text() == text
    assert not list(folder.glob("*.tmp"))


def test_check_sees_a_stale_file_and_leaves_it(folder):
    compile_pipelines(folder)
    file = folder / "toy.yaml"
    file.write_text(file.read_text().replace("Small steps", "Large steps"))
    stale = file.read_text()
    assert [entry.state for entry in compile_pipelines(folder, check=True)] == ["differs"]
    assert file.read_text() == stale
    file.unlink()
    assert [entry.state for entry in compile_pipelines(folder, check=True)] == ["differs"]
    assert not file.exists()


def test_image_is_chosen_at_compile_time(folder):
    compile_pipelines(folder)
    assert f"image: {BASE_IMAGE}\n" in (folder / "toy.yaml").read_text()
    compile_pipelines(folder, image="registry.local:5000/mine@sha256:abc")
    text = (folder / "toy.yaml").read_text()
    assert text.count("image: registry.local:5000/mine@sha256:abc\n") == 4
    assert BASE_IMAGE not in text
    with pytest.raises(InputError, match="--image"):
        compile_pipelines(folder, image="two words")


def test_a_step_installs_nothing_when_it_starts(folder):
    compile_pipelines(folder)
    assert "pip install" not in (folder / "toy.yaml").read_text()


def test_components_come_from_beside_the_pipelines(tmp_path):
    for name in ("one", "two"):
        component = tmp_path / name / "components" / "only"
        component.mkdir(parents=True)
        (component / "component.py").write_text(
            "from kfp import dsl\n\n\n"
            f"@dsl.component(base_image='x', install_kfp_package=False)\ndef {name}():\n    print('{name}')\n"
        )
        sources = tmp_path / name / "pipelines"
        sources.mkdir()
        (sources / "p.py").write_text(
            f"from kfp import dsl\nfrom components.only.component import {name}\n\n\n"
            f"@dsl.pipeline(name='p')\ndef p():\n    {name}()\n"
        )
        compile_pipelines(sources)
        assert [step.name for step in read_pipeline(sources / "p.yaml").steps] == [name]


@pytest.mark.parametrize(
    ("source", "names", "message"),
    [
        (None, (), "no pipeline sources"),
        ("", ("other",), "other: no such pipeline in .*there are toy"),
        ("x = 1\n", (), "expected one @dsl.pipeline, found 0"),
    ],
)
def test_bad_sources(tmp_path, source, names, message):
    if source is not None:
        (tmp_path / "toy.py").write_text(source)
    with pytest.raises(InputError, match=message):
        compile_pipelines(tmp_path, names)


def test_reads_back_parameters_steps_and_outputs(toy):
    kinds = {name: (entry.kind, entry.default, entry.required) for name, entry in toy.parameters.items()}
    assert kinds == {
        "folder": ("str", None, True),
        "times": ("int", 2, False),
        "passes": ("bool", True, False),
        "wait": ("float", 0.0, False),
        "workspace": ("str", "", False),
        "tags": ("list", [], False),
        "extra": ("dict", {}, False),
    }
    assert type(toy.parameters["times"].default) is int
    assert toy.parameters["folder"].description == "Where the input lies."
    assert set(toy.steps) == {
        Step("look", "look", "look"),
        Step("make", "make", "make artefacts"),
        Step("make-2", "make-2", "make others"),
        Step("check", "check", "check"),
    }
    assert set(toy.outputs) == {
        Output("release", "release", "make", "release"),
        Output("metrics", "metrics.json", "make", "metrics"),
        Output("report", "report.html", "make", "report"),
    }


@pytest.mark.parametrize("text", ["", "a: [1", "just words", "- 1\n- 2\n", "root: {}\n", "pipelineInfo: 1\nroot: 2\n"])
def test_other_files_are_refused(tmp_path, text):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"x\.yaml: not (YAML|a compiled pipeline)"):
        read_pipeline(file)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_pipeline(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        read_pipeline(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not YAML"):
        read_pipeline(tmp_path / "b.yaml")
