"""Settings that travel as text, and folders that outlive a step."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.config import load_config
from taoemb.errors import InputError
from taoemb.jobs.steps import (
    STAGES,
    fingerprint,
    run_folder,
    run_overrides,
    served,
    settings_file,
    settings_from,
    settings_text,
    stage_settings,
)

OVERRIDES = st.lists(
    st.sampled_from(
        [
            "grpo.k=7",
            "grpo.optim.lr=0.5",
            "encoder.item_template='{title}[, {brand}]'",
            "judge.cache=judgments.sqlite",
            "heldout_judge.url=http://h/openai/v1",
            "engine.deepspeed={a: {b: 1}}",
            "evaluation.hitrate=[1, 5]",
            "judge.rubric='größe'",
        ]
    )
)


@settings(deadline=None)
@given(OVERRIDES)
def test_settings_survive_the_text(overrides):
    config = load_config(None, overrides)
    assert settings_from(settings_text(config)) == config
    parts = stage_settings(config)
    for stage, sections in STAGES.items():
        back = settings_from(parts[stage])
        assert all(back.model_dump()[section] == config.model_dump()[section] for section in sections)


def test_a_part_changes_only_with_its_own_sections():
    before, after = stage_settings(load_config()), stage_settings(load_config(None, ["grpo.k=9", "judge_train.lr=1"]))
    assert {stage for stage in STAGES if before[stage] != after[stage]} == {"grpo", "judge", "heldout_judge"}
    assert before["sft"] == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpo: {kk: 3}", "settings: grpo.kk: no such setting"),
        ("grpo: {k: 1}", "settings: grpo.k: input should be greater than or equal to 2"),
        ("a: [", "settings: not YAML"),
        ("- 1", "settings: expected a mapping"),
    ],
)
def test_bad_settings_are_called_settings(text, message):
    with pytest.raises(InputError) as error:
        settings_from(text)
    assert str(error.value).startswith(message)
    assert "/" not in str(error.value).replace("docs/configuration.md", "")


def test_run_parameters_that_are_left_empty_override_nothing():
    empty = {"encoder.model": "", "sft.steps": 0, "grpo.steps": 0, "engine.seed": -1, "judge.url": ""}
    assert run_overrides(empty) == []
    set_ = {"encoder.model": "a: b", "sft.steps": 3, "engine.seed": 0, "judge.url": "http://h/v1#x"}
    config = settings_from("", run_overrides(set_))
    assert (config.encoder.model, config.sft.steps, config.engine.seed) == ("a: b", 3, 0)
    assert config.judge.url == "http://h/v1#x"
    assert "seed" in config.engine.model_fields_set


def test_a_fingerprint_follows_the_bytes(tmp_path):
    (tmp_path / "items.parquet").write_bytes(b"abc")
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    (tmp_path / "notes.txt").write_text("not data")
    assert fingerprint(tmp_path) == first
    (tmp_path / "items.parquet").write_bytes(b"abd")
    changed = fingerprint(tmp_path)
    (tmp_path / "pairs.parquet").write_bytes(b"")
    assert len({first, changed, fingerprint(tmp_path)}) == 3


def test_a_run_folder_waits_for_the_same_inputs(tmp_path):
    def interrupted() -> None:
        with run_folder(str(tmp_path), "sft", "a", "b") as folder:
            (folder / "checkpoint").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with run_folder(str(tmp_path), "sft", "a", "other") as other:
        assert not list(other.iterdir())
    with run_folder(str(tmp_path), "sft", "ab", "") as other:
        assert not list(other.iterdir())
    with run_folder(str(tmp_path), "sft", "a", "b") as again:
        assert (again / "checkpoint").exists()
    assert not list(tmp_path.iterdir())


def test_without_a_workspace_nothing_stays(tmp_path):
    with run_folder("", "sft", "a") as folder:
        (folder / "checkpoint").touch()
    assert not folder.exists()
    with settings_file("a: 1") as path:
        assert path.read_text() == "a: 1"
    assert not path.parent.exists()


def test_a_named_endpoint_is_not_served():
    config = load_config(None, ["judge.url=http://h/v1", "heldout_judge.url=http://h/v2"])
    with served("judge", config, Path("none")) as first, served("heldout_judge", config, Path("none")) as second:
        assert first + second == []


def test_importing_the_steps_is_cheap():
    code = (
        "import sys, taoemb.jobs.steps, taoemb.jobs.pipelines, taoemb.cli.pipeline;"
        "heavy = {'torch', 'kfp', 'pyarrow', 'numpy', 'pymilvus'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
