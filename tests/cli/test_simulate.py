"""`taoemb rollout simulate` through the real command line."""

import json
from pathlib import Path

import pytest

from taoemb.cli.main import main
from taoemb.data.synth import synthesise


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["rollout", "simulate", *map(str, args)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--outage", "gateway:0-1"], "--outage 'gateway:0-1': expected control|candidate|judge:FROM-TO"),
        (["--judge-flips", "2"], "--judge-flips needs 0 to 1"),
        (["--judge-prejudice", "-1.5"], "--judge-prejudice -1 to 1"),
        (["--plan", "no-such.yaml"], "no-such.yaml: No such file"),
        (["--set", "gateway.k=0"], "gateway.k"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, "--out", tmp_path / "out", *options)
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_good_candidate_on_a_shop_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthesise(tmp_path / "shop", items=300, queries=120, seed=1)
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "steps: [{percent: 50, min_units: 60}]\nguardrails: []\ndepth: 4\nlook_every_s: 0.5\nevent_window_s: 0.5\n"
    )
    options = ["--data", tmp_path / "shop", "--plan", plan, "--lift", 0.5, "--quality", 0.1, "--concurrency", 4]
    code, printed, _ = run(capsys, "--out", tmp_path / "out", *options, "--json")
    result = json.loads(printed)
    assert (code, result["outcome"], result["verdict_is"]) == (0, "Promoted", "right")
    assert result["failed"] == result["mismatched"] == 0
    assert Path(result["report"]).is_file()
