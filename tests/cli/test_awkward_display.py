"""What a table shows is what the data says: no markup, no escape sequence, nothing lost, whatever a title holds."""

import json
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taoemb.cli.common import emit, say
from taoemb.cli.main import main
from taoemb.data.files import write_table
from taoemb.plain import one_line
from taoemb.progress import _Bar

AWKWARD = (
    "Red lamp [black]",
    "[/b]",
    "[bold red]x[/]",
    "[link=http://x]y",
    "\\[b]",
    ":smile:",
    "{x} %s $x$",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "a\nb\r\tc\0",
    "\u202egpj.exe",
    "\u2066a\u2069",
    "\x9b2J",
    "日本語の題名",
    "e\u0301 🧑‍🚀",
    "\ud800",
)
texts = st.text() | st.text("[]/\\b{}:", max_size=20) | st.sampled_from(AWKWARD)


def printed(capsys: pytest.CaptureFixture[str], *cells: object, title: str = "", column: str = "") -> str:
    """What a table of one row shows, without its frame."""
    emit({}, False, title=title, table=([column, *[""] * (len(cells) - 1)], [cells]))
    return capsys.readouterr().out


def bare(text: str) -> str:
    """Without spaces and the frame's lines: a table folds what is too long."""
    return re.sub(r"[\s\u2500-\u257f]", "", text)


@given(texts.filter(str.strip), texts)
@example("[/b]", "[black]")
@settings(max_examples=150, deadline=None)
def test_awkward_texts_are_shown_as_they_are(text: str, title: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("rich.console.Console.print", lambda self, drawn: lines.append(_drawn(drawn)))
        emit({}, False, title=title, table=(("", "x"), [(text, 1)]))
    shown = bare(lines[0])
    assert bare(one_line(text)) in shown
    assert bare(one_line(title)) in shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lines[0])


def _drawn(table: object) -> str:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    console = Console(file=out, width=160)
    console.file.write("".join(segment.text for segment in console.render(table)))
    return out.getvalue()


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_cells_titles_and_columns(capsys: pytest.CaptureFixture[str], text: str) -> None:
    out = printed(capsys, text, title=text, column=text)
    assert bare(out).count(bare(one_line(text))) == 3
    say(text)
    assert capsys.readouterr().out == one_line(text) + "\n"


@given(texts)
def test_one_line_is_one_line_and_loses_nothing(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert one_line(shown) == shown
    harmless = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "", text)
    assert harmless == text or len(shown) > len(text)
    if harmless == text:
        assert shown == text


def test_awkward_labels_on_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bar = _Bar("[/b] \x1b[2J", 1)
    bar.advance(1, "[/i]")
    bar.close()
    assert "[/b] \\x1b[2J" in capsys.readouterr().err


def taoemb(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "taoemb", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_awkward_ids_in_a_violation_are_shown(tmp_path) -> None:
    ids = ["a[/b]", "a[/b]", "c"]
    write_table(tmp_path / "items.parquet", pa.table({"item_id": ids, "title": ["x"] * 3}))
    done = taoemb("data", "validate", tmp_path)
    assert done.returncode == 2
    assert "a[/b]" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_awkward_slices_are_shown(tmp_path) -> None:
    write_table(tmp_path / "items.parquet", pa.table({"item_id": ["a"], "title": ["x"]}))
    queries = {"query_id": ["q", "r"], "text": ["lamp", "rug"], "slices": [["[bold]"], ["\x1b[31m[/i]"]]}
    write_table(tmp_path / "queries.parquet", pa.table(queries))
    done = taoemb("data", "validate", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[bold]" in done.stdout
    assert "\\x1b[31m[/i]" in done.stdout


@pytest.mark.parametrize("text", ["[/b]", "\x1b[31m", "a\nb", "\u202e"])
def test_awkward_usage_errors_are_one_plain_line(capsys: pytest.CaptureFixture[str], text: str) -> None:
    for arguments in ((text,), ("data", "validate", text), ("data", "synth", "--out", "x", "--items", text)):
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        assert done.value.code == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1, said
        assert not re.search(r"[\x1b\u202e]", said)


def test_awkward_terminals_without_unicode_get_escapes(tmp_path) -> None:
    write_table(tmp_path / "items.parquet", pa.table({"item_id": ["a"], "title": ["x"]}))
    write_table(tmp_path / "queries.parquet", pa.table({"query_id": ["q"], "text": ["x"], "slices": [["größe 🙂"]]}))
    for mode in ((), ("--json",)):
        done = taoemb("data", "validate", tmp_path, *mode, env={"PYTHONIOENCODING": "ascii"})
        assert done.returncode == 0, done.stderr
        assert "gr\\xf6\\xdfe" in done.stdout


def test_json_is_the_data(tmp_path, capsys) -> None:
    emit({"title": "[/b] \x1b"}, True)
    assert json.loads(capsys.readouterr().out) == {"title": "[/b] \x1b"}
