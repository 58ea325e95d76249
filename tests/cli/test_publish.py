"""What publish, search and releases refuse: one line, the right exit code, nothing written."""

import pytest

from taoemb.cli.main import main


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder; gives (exit code, its one line on standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as done:
            main(list(args))
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert list(tmp_path.glob("*.db")) == []
        return int(str(done.value.code)), err

    return call


PUBLISH = ("publish", "--release", "release", "--data", "data")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("publish", "--data", "data"), "--release"),
        (PUBLISH, "release: not a release"),
        ((*PUBLISH, "--shard", "1/2"), "--bulk DIR"),
        ((*PUBLISH, "--bulk", "bulk", "--shard", "3/2"), "I from 1 to N"),
        ((*PUBLISH, "--bulk", "bulk"), "milvus.db is a Milvus Lite file"),
        ((*PUBLISH, "--bulk", "bulk", "--milvus", "http://127.0.0.1:1"), "milvus.bulk_remote"),
        ((*PUBLISH, "--set", "milvus.min_recall=2"), "milvus.min_recall"),
        (("search", "lamp", "--milvus", "shop.txt"), "ends with .db"),
        (("search", " "), "query is empty"),
        (("releases", "prune", "--keep", "-1"), "--keep -1"),
        (("releases", "list", "--set", "milvus.token_file=missing"), "token_file"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(refused, args, says):
    code, line = refused(*args)
    assert (code, says in line) == (2, True), line


@pytest.mark.parametrize("args", [("search", "lamp"), ("releases", "list"), ("releases", "rollback")])
def test_a_server_that_does_not_answer_is_one_line_and_exit_1(refused, args):
    code, line = refused(*args, "--milvus", "http://127.0.0.1:1")
    assert code == 1
    assert line.startswith("taoemb: cannot open Milvus at http://127.0.0.1:1")
