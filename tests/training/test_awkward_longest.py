"""The longest ids and titles that are allowed go all the way, from import to search; folders have the umask's modes."""

import json
import os
import re
import stat

import pytest

from taoemb.cli.main import main
from taoemb.config import JudgeTrainConfig
from taoemb.data.synth import synthesise
from taoemb.judge.train import train_judge
from taoemb.limits import ID_BYTES, TITLE_BYTES
from tests.judge.graded_shop import colour_shop, tiny_bert
from tests.training.conftest import SMALL
from tests.training.forked import Forked
from tests.training.shop import COLOURS, TYPES

HOSTILE = "red sofa \x1b[2J\x1b]0;owned\x07\r \u202egpj.exe \u2066x"


def wide(name: str, character: str) -> str:
    """An id of exactly as many bytes as are allowed."""
    text = f"{name}-{character * ((ID_BYTES - len(name) - 1) // len(character.encode()))}"
    return text + "x" * (ID_BYTES - len(text.encode()))


def write_source(folder):
    """JSON Lines of a shop whose ids and titles are as long as they may be."""
    folder.mkdir()
    characters = ("i", "ü", "織", "ñ", "'", '"', "\\", "%")
    items = [
        {"item_id": wide(f"{colour}{kind}", characters[n % 8]), "title": f"{colour} {kind}"}
        for n, (colour, kind) in enumerate((c, k) for k in TYPES for c in COLOURS)
    ]
    items[0]["title"] = HOSTILE
    items[1]["title"] = ("blue sofa " + "織" * TITLE_BYTES)[:TITLE_BYTES]
    queries = [{"query_id": wide(f"q{n}", characters[n % 8]), "text": f"{c} {TYPES[0]}"} for n, c in enumerate(COLOURS)]
    queries += [{"query_id": wide(f"p{n}", "q"), "text": f"{c} {TYPES[1]}"} for n, c in enumerate(COLOURS)]
    pairs = [
        {"query_id": query["query_id"], "item_id": items[n]["item_id"], "weight": 1} for n, query in enumerate(queries)
    ]
    for name, rows in (("items", items), ("queries", queries), ("pairs", pairs)):
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{name}.jsonl").write_text(lines + "\n", encoding="utf-8")
    return items, [folder / f"{name}.jsonl" for name in ("items", "queries", "pairs")]


def ok(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main([str(one) for one in arguments])
    out, err = capsys.readouterr()
    assert not done.value.code, err
    return out


@pytest.fixture
def private():
    """A umask that lets the group read and nobody else."""
    earlier = os.umask(0o027)
    yield
    os.umask(earlier)


def test_awkward_longest_ids_go_all_the_way(release, private, tmp_path, capsys):
    items, (first, queries, pairs) = write_source(tmp_path / "source")
    assert {len(item["item_id"].encode()) for item in items} == {ID_BYTES}
    data, out, milvus = tmp_path / "data", tmp_path / "run", tmp_path / "m.db"
    ok(capsys, "data", "import", "jsonl", first, "--queries", queries, "--pairs", pairs, "--out", data)
    told = ok(capsys, "data", "validate", data)
    argv = ["--data", str(data), "--out", str(out), "--release", str(release)]
    for setting in (*SMALL, "sft.steps=1", "sft.queries=4"):
        argv += ["--set", setting]
    job = Forked("sft", argv, tmp_path / "logs", hooks=((os.umask, (0o027,)),))
    assert job.wait() == [0], job.said()
    check_modes(out, 0o640, 0o750)
    trained = out / "release"
    ok(capsys, "publish", "--release", trained, "--data", data, "--milvus", milvus, "--set", "milvus.min_recall=0")
    check_modes(trained, 0o640, 0o750)
    found = json.loads(ok(capsys, "search", "red sofa", "--milvus", milvus, "-k", 40, "--json"))
    assert {hit["item_id"] for hit in found["hits"]} == {item["item_id"] for item in items}
    shown = ok(capsys, "search", "red sofa \x1b[2J", "--milvus", milvus, "-k", 40)
    for text in (told, shown):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "\\x1b[2J" in shown
    assert "\\u202e" in shown


def check_modes(folder, file, inner):
    wrong = {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if stat.S_IMODE(path.stat().st_mode) != (inner if path.is_dir() else file)
    }
    assert wrong == {}


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_awkward_modes_of_whole_folders(umask, file, folder, tmp_path):
    """What a shop and a judge consist of can be read by whom the umask lets read."""
    base = tiny_bert(tmp_path / "base")
    earlier = os.umask(umask)
    try:
        synthesise(tmp_path / "made" / "shop", 300, 60, 0)
        data = colour_shop(tmp_path / "graded")
        settings = JudgeTrainConfig(
            model=str(base), epochs=1, batch_size=64, max_tokens=16, max_pairs=60, zero_shot=0, precision="fp32"
        )
        train_judge([data], tmp_path / "made" / "judge", settings)
    finally:
        os.umask(earlier)
    assert (tmp_path / "made" / "judge" / "judge.json").exists()
    check_modes(tmp_path / "made", file, folder)
