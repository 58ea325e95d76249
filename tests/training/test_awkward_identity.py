"""Every setting is part of what a run is, but for those that are listed with the reason why they change no number."""

import shutil

import pytest
from pydantic import BaseModel

from taoemb.config import Config, JudgeConfig, load_config
from taoemb.data.dataset import open_dataset
from taoemb.encoder.release import load_release
from taoemb.errors import InputError
from taoemb.training.checkpoint import Cut, check_cut
from taoemb.training.folder import RunFolder, write_json
from taoemb.training.identity import MAY_CHANGE, READS, check, claim, grows, of_run


@pytest.fixture(scope="module")
def data(shop):
    return open_dataset(shop)


@pytest.fixture(scope="module")
def parent(release):
    return load_release(release)


def other(value):
    """Another value of the kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 8
        case str():
            return f"{value}x"
        case tuple():
            return (*value, 8)
        case dict():
            return {**value, "x": 1}
    return "x"


def changed(model: BaseModel, path: str) -> BaseModel:
    name, _, rest = path.partition(".")
    value = dict(model)[name]
    return model.model_copy(update={name: changed(value, rest) if rest else other(value)})


def leaves(model: BaseModel, prefix: str = ""):
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("objective", READS)
def test_awkward_every_setting_counts_unless_it_is_listed(objective, data, parent):
    config = Config(heldout_judge=JudgeConfig()).model_copy()
    config = config.model_copy(update={"grpo": config.grpo.model_copy(update={"heldout_every": 1})})
    settled = {
        "model",
        "pooling",
        "dimension",
        "query_template",
        "item_template",
        "max_query_tokens",
        "max_item_tokens",
    }
    before = of_run(objective, config, data, parent)
    seen = 0
    for section in READS[objective]:
        for leaf in leaves(dict(config)[section]):
            key = f"{section}.{leaf}"
            if leaf == "rubric":
                continue
            after = of_run(objective, changed(config, key), data, parent)
            told = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            free = key.replace("heldout_judge.", "judge.") in MAY_CHANGE or (section == "encoder" and leaf in settled)
            if leaf == "towers":  # checkpoints count where items move
                told -= {"engine.checkpoint_every"}
            assert told == (set() if free else {key}), key
            seen += 1
    assert seen > 20
    for section in {"sft", "grpo", "hard_negatives", "live_infonce", "rewards", "judge"} - set(READS[objective]):
        leaf = next(iter(leaves(dict(config)[section])))
        assert of_run(objective, changed(config, f"{section}.{leaf}"), data, parent) == before


def test_awkward_without_a_release_the_models_content_counts(data, model, tmp_path):
    def start(folder):
        return of_run("sft", load_config(None, [f"encoder.model={folder}"]), data, None)

    copy = shutil.copytree(model, tmp_path / "copy")
    assert start(copy) == start(model)
    assert start(model)["encoder.pooling"] == "auto"
    (copy / "vocab.txt").write_text("other")
    assert start(copy)["start"] != start(model)["start"]


def test_awkward_a_rubric_counts_by_its_words(data, parent, tmp_path):
    from taoemb.judge.prompt import load_rubric

    def of(rubric):
        return of_run("grpo", load_config(None, [f"judge.rubric={rubric}"]), data, parent)

    own = tmp_path / "own.txt"
    own.write_text(f"---\nversion: own\n---\n{load_rubric('v1').text}")
    assert of(own)["judge.rubric"] == load_rubric(str(own)).digest
    before = of(own)
    own.write_text(own.read_text().replace("4", "4 ", 1))
    assert of(own) != before


def test_awkward_a_key_that_is_left_out_of_a_mapping_is_noticed(data, parent, tmp_path):
    folder = RunFolder(tmp_path)
    asked = "{chat_template_kwargs: {enable_thinking: false}, seed: 3}"
    claim(folder, of_run("grpo", load_config(None, [f"judge.extra_body={asked}"]), data, parent))
    folder.metrics.write_text('{"step": 0}\n')
    with pytest.raises(InputError, match=r"other judge\.extra_body"):
        check(folder, of_run("grpo", load_config(None, ["judge.extra_body={seed: 3}"]), data, parent))


def test_awkward_checkpoints_count_where_items_move(data, parent):
    def of(*settings):
        return of_run("grpo", load_config(None, settings), data, parent)

    assert of("engine.checkpoint_every=7") == of()
    assert of("grpo.towers=both", "engine.checkpoint_every=7") != of("grpo.towers=both")


def test_awkward_a_folder_without_a_step_holds_no_run(tmp_path):
    folder = RunFolder(tmp_path)
    claim(folder, {"objective": "sft", "sft.steps": 6, "sft.tau": 1})
    check(folder, {"objective": "grpo"})
    folder.metrics.write_text('{"step": 0}\n')
    with pytest.raises(InputError, match=r"holds a run with other objective \(sft, now grpo\)"):
        check(folder, {"objective": "grpo"})
    with pytest.raises(InputError, match=r"other sft.tau \(1, now 2\); give another --out"):
        check(folder, {"objective": "sft", "sft.tau": 2})


@pytest.mark.parametrize(
    ("schedule", "warmup", "to", "may"),
    [
        ("constant", 0.0, 12, True),
        ("constant", 0.1, 9, True),  # one step of warm-up in both
        ("constant", 0.1, 12, False),
        ("linear", 0.0, 12, False),
        ("constant", 0.0, 3, False),
    ],
)
def test_awkward_steps_grow_where_the_rates_stay(schedule, warmup, to, may, tmp_path):
    folder = RunFolder(tmp_path)
    run = {"objective": "sft", "sft.optim.schedule": schedule, "sft.optim.warmup": warmup}
    claim(folder, run | {"sft.steps": 6})
    folder.metrics.write_text('{"step": 0}\n')
    longer = run | {"sft.steps": to}
    if may:
        check(folder, longer)
        assert grows(folder, longer)
    else:
        with pytest.raises(InputError, match=rf"sft.steps \(6, now {to}\), and the learning rate of each step"):
            check(folder, longer)


def test_awkward_a_run_of_an_earlier_version_is_told_apart(tmp_path):
    folder = RunFolder(tmp_path)
    write_json(folder.marker, {"digest": "d", "run": {}})
    folder.metrics.write_text('{"step": 0}\n')
    with pytest.raises(InputError, match="holds a run of an earlier version"):
        check(folder, {"objective": "sft"})


def test_awkward_cuts(tmp_path):
    folder = RunFolder(tmp_path)
    step = folder.checkpoint(3)
    write_json(step / "cut.json", {"ranks": 4, "zero_stage": 0, "offload": "none"})
    check_cut(folder, Cut(1, 0, "none"))
    for cut in (Cut(4, 1, "none"), Cut(4, 0, "optimizer")):
        with pytest.raises(InputError, match=r"its checkpoint was written by 4 ranks at engine\.zero_stage 0"):
            check_cut(folder, cut)
