"""Plans that look right and could never do what their writer means are refused before anything starts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taoemb.cli.main import main
from taoemb.config import load_config
from taoemb.data.schemas import SCHEMAS
from taoemb.errors import InputError
from taoemb.rollout.measurement.slicing import Slicer
from taoemb.rollout.plan import Guardrail, Plan, load_plan

NEGATION = "slices: [{name: neg, pattern: '\\b(no|without)\\b'}]\n"


def refusal(tmp_path: Path, text: str) -> str:
    """What is said of a plan's text."""
    file = tmp_path / "plan.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_plan(file)
    return str(refused.value).removeprefix(f"--plan {file}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            NEGATION + "guardrails: [{metric: item_goodrate, slice: negation, margin: 0.1}]",
            "guardrails.0.slice: no slice 'negation'; there are all, neg",
        ),
        (NEGATION + "guardrails: [{metric: ndcg, margin: 0}, {metric: ndcg, slice: 'x*', margin: 0}]", "guardrails.1"),
        ("guardrails: [{metric: item_goodrate, slice: 'category:*', margin: 0.1}]", "no slice 'category:*'"),
        ("slices: [{name: a, pattern: x}, {name: a, pattern: y}]", "two have the name 'a'"),
        ("slices: [{name: all, pattern: x}]", "choose another name"),
        ("slices: [{name: 'a*', pattern: x}]", "holds no *"),
        ("slices: [{name: a, pattern: '('}]", "no regular expression"),
        ("margin: .inf", "margin: "),
        ("margin: .nan", "margin: "),
        ("guardrails: [{metric: ndcg, margin: .inf}]", "guardrails.0.margin"),
        ("steps: [{percent: 50}, {percent: 100}]", "no control to compare with"),
        ("margin: 0.1\nalpha: 0.05\nmargin: 0.2\n", "'margin' stands twice"),
        ("steps: [{percent: 5, percent: 50}]", "'percent' stands twice"),
    ],
)
def test_an_awkward_plan_is_refused_in_words(tmp_path, text, said):
    assert said in refusal(tmp_path, text)


def test_an_awkward_plan_ends_the_command_with_one_line(tmp_path, capsys):
    plan = tmp_path / "plan.yaml"
    plan.write_text(NEGATION + "guardrails: [{metric: item_goodrate, slice: negation, margin: 0.1}]")
    words = [
        "rollout",
        "start",
        "--control",
        "a",
        "--candidate",
        "b",
        "--plan",
        str(plan),
        "--dir",
        str(tmp_path / "r"),
    ]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "r").exists()


def guarding(folder: Path, slice: str) -> Plan:
    """A plan whose slices come from the queries in `folder`."""
    return Plan(slice_queries=folder, guardrails=(Guardrail(metric="ndcg", slice=slice, margin=0.1),))


def test_awkward_guardrails_are_held_against_the_slices_of_a_dataset(tmp_path):
    sofa = {"query_id": "q1", "text": "sofa", "slices": ["long-tail", "category:sofas"]}
    for table, row in (("queries", sofa), ("items", {"item_id": "i1", "title": "Sofa"})):
        pq.write_table(pa.Table.from_pylist([row], SCHEMAS[table]), tmp_path / f"{table}.parquet")
    for known in ("all", "*", "long-tail", "category:*", "long*"):
        assert Slicer(guarding(tmp_path, known)).slices("Sofa") == {"long-tail", "category:sofas"}
    with pytest.raises(
        InputError, match=r"guardrails\.0\.slice: no slice 'negation'; there are all, long-tail, category"
    ):
        Slicer(guarding(tmp_path, "negation"))


def test_awkward_settings_that_name_a_key_twice_are_refused(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("grpo: {k: 8}\nsft: {steps: 3}\ngrpo: {queries: 4}\n")
    with pytest.raises(InputError, match="'grpo' stands twice"):
        load_config(file)
    with pytest.raises(InputError, match="not a YAML value"):
        load_config(None, ["grpo={k: 1, k: 2}"])


def test_yaml_that_merges_may_override(tmp_path):
    file = tmp_path / "plan.yaml"
    entries = ["&first {metric: ndcg, margin: 0.1}", "{<<: *first, margin: 0.2}", "{<<: *first, metric: gsb}"]
    file.write_text("guardrails:\n" + "".join(f"  - {entry}\n" for entry in entries))
    found = [(one.metric, one.margin) for one in load_plan(file).guardrails]
    assert found == [("ndcg", 0.1), ("ndcg", 0.2), ("gsb", 0.1)]
