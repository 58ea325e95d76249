"""The example in docs/encoder.md runs as it stands there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "encoder.md"


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {})
    cosine, digest = capsys.readouterr().out.split()
    assert 0.3 < float(cosine.strip("[]")) < 1
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
