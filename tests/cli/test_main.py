"""The command line as a whole: quick help, one line for every kind of bad usage, exit codes."""

import resource
import subprocess
import sys

import pytest

from taoemb.config import Config, dump_config, load_config
from taoemb.errors import InputError


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "taoemb", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


def test_help_answers_in_under_half_a_second():
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.5  # seconds of the processor: other tests run beside this one


def test_help_loads_nothing_heavy():
    code = "import sys; import taoemb.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"torch", "transformers", "deepspeed", "kserve", "kfp", "pymilvus", "pyarrow", "numpy"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nope",), "No such command 'nope'"),
        (("train", "sft", "--data", "x"), "Missing option '--out'"),
        (("train", "sft", "--data", "x", "--out", "y", "--set", "sft.step=3"), "sft.step: no such setting"),
        (("train", "sft", "--data", "x", "--out", "y", "--set", "sft.steps=many"), "sft.steps: input should be"),
        (("train", "sft", "--data", "x", "--out", "y", "--set", "steps"), "expected key=value"),
        (("train", "sft", "--data", "x", "--out", "y", "--config", "none.yaml"), "none.yaml: No such file"),
        (
            ("train", "grpo", "--data", "x", "--out", "y", "--release", "z", "--judge", "a", "--judge-url", "b"),
            "one of",
        ),
        (("demo", "--pipeline", "none.yaml"), "none.yaml: no such file"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, says, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bare_noun_prints_its_help():
    done = run("data")
    assert done.returncode == 2
    assert "synth" in done.stderr


def test_settings_survive_a_round_trip(tmp_path):
    config = load_config(None, ["grpo.k=16", "encoder.matryoshka=[64, 32]", "judge.cache=/x/y.db"])
    (tmp_path / "settings.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "settings.yaml") == config


def test_an_inner_section_keeps_the_defaults_of_its_place():
    assert load_config(None, ["grpo.optim.schedule=constant"]).grpo.optim.lr == Config().grpo.optim.lr
    assert Config().grpo.optim.lr != Config().sft.optim.lr


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\udcff"])
def test_a_settings_file_that_is_none(text, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"settings\.yaml"):
        load_config(path)


def test_the_settings_page_is_that_of_the_settings():
    assert subprocess.run([sys.executable, "scripts/configuration_page.py", "--check"], timeout=60).returncode == 0
