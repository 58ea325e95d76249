"""Bad input to a training job: one line, exit code 2, nothing written."""

import json
import shutil
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.training.alarms import Alarms
from taoemb.training.engine import deepspeed_settings, learning_rate
from taoemb.training.entry import main
from taoemb.training.tracking import drop_records_from
from tests.training.conftest import SMALL


def refused(capsys, objective, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(objective, [*arguments, *(part for s in SMALL for part in ("--set", s))])
    said = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2, said
    return said[-1]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("grpo.nothing=1", "grpo.nothing: no such setting"),
        ("grpo.k=1000", "grpo.k is 1000, more than the pool of 160 items"),
        ("engine.gradient_accumulation=3", "grpo.queries is 8: not divisible"),
        ("grpo.heldout_every=2", "grpo.heldout_every needs heldout_judge.url"),
        ("judge.url=nonsense", "judge.url 'nonsense'"),
    ],
)
def test_bad_settings(setting, says, shop, release, judge, capsys, tmp_path):
    out = tmp_path / "run"
    arguments = ["--data", str(shop), "--release", str(release), "--out", str(out), "--set", f"judge.url={judge.url}"]
    with pytest.raises(SystemExit) as ended:
        main("grpo", [*arguments, *(part for s in (*SMALL, setting) for part in ("--set", s))])
    said = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2, said
    assert says in said[-1]
    assert not (out / "release").exists()


def test_grpo_without_a_release_says_where_it_starts_from(shop, judge, capsys, tmp_path):
    url = f"judge.url={judge.url}"
    said = refused(capsys, "grpo", "--data", str(shop), "--out", str(tmp_path / "run"), "--set", url)
    assert "needs --release DIR" in said


def test_data_without_pairs_is_refused_before_anything_is_written(shop, model, capsys, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(shop, data)
    (data / "pairs.parquet").unlink()
    start = ("--set", f"encoder.model={model}")
    said = refused(capsys, "sft", "--data", str(data), "--out", str(tmp_path / "run"), *start)
    assert "pairs.parquet" in said
    assert not (tmp_path / "run").exists()


def test_a_pair_that_names_no_item_is_named(shop, model, capsys, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(shop, data)
    pairs = pq.read_table(data / "pairs.parquet").to_pydict()
    pairs["item_id"][3] = "ghost"
    pq.write_table(pa.table(pairs), data / "pairs.parquet")
    start = ("--set", f"encoder.model={model}")
    said = refused(capsys, "sft", "--data", str(data), "--out", str(tmp_path / "run"), *start)
    assert "pairs.parquet" in said
    assert "3" in said
    assert "ghost" in said


def test_a_changed_release_is_refused(shop, release, judge, capsys, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(release, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    said = refused(capsys, "grpo", "--data", str(shop), "--release", str(broken), "--out", str(tmp_path / "run"))
    assert "config.json was changed" in said


def test_learning_rate_warms_up_then_decays():
    from taoemb.config import OptimConfig

    optim = OptimConfig(lr=1.0, warmup=0.1, schedule="cosine")
    rates = [learning_rate(optim, step, 100) for step in range(100)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 0.01
    assert learning_rate(optim.model_copy(update={"schedule": "constant"}), 99, 100) == 1.0
    assert learning_rate(optim.model_copy(update={"schedule": "linear"}), 55, 100) == pytest.approx(0.5)


def test_deepspeed_settings_follow_the_config():
    import torch

    from taoemb.config import EngineConfig, OptimConfig

    engine = EngineConfig(
        zero_stage=3, offload="optimizer+parameters", precision="bf16", deepspeed={"comms_logger": {}}
    )
    made = deepspeed_settings(engine, OptimConfig(grad_clip=0.5), torch.device("cpu"))
    assert made["zero_optimization"]["stage"] == 3
    assert made["zero_optimization"]["offload_param"]["device"] == "cpu"
    assert made["bf16"] == {"enabled": True}
    assert made["gradient_clipping"] == 0.5
    assert made["comms_logger"] == {}


def test_collapse_is_alarmed_once():
    from taoemb.config import EngineConfig

    alarms = Alarms(EngineConfig(collapse_cosine=0.8))
    assert alarms.check(1, {"cosine_queries": 0.5}) == []
    assert "collapsing" in alarms.check(2, {"cosine_queries": 0.85})[0]
    assert alarms.check(3, {"cosine_queries": 0.9}) == []


def test_judges_that_part_are_alarmed():
    from taoemb.config import EngineConfig

    def said(heldout):
        alarms, found = Alarms(EngineConfig()), []
        for step in range(60):
            check = {"heldout_relevance": heldout(step)} if step % 10 == 0 else {}
            found += alarms.check(step, {"relevance": 0.4 + step / 200, **check})
        return found

    assert "held-out judge falls" in said(lambda step: 0.6 - step / 200)[0]
    assert said(lambda step: 0.6 + step / 200) == []


def test_a_half_written_record_is_dropped_on_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}\n{"step": 2}\n{"st')
    drop_records_from(path, 2)
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'
