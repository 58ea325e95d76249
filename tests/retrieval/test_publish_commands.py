"""publish, search and releases through the real command line, each in a process of its own as a user runs them."""

import json
import subprocess
import sys

import pytest

from taoemb.cli.main import main
from tests.retrieval.tiny_shop import shop, write_items


@pytest.fixture
def run(capsys, tmp_path):
    """Run a command in this process against this test's own file; gives (exit code, parsed JSON or None, stderr)."""

    def call(*args: object):
        with pytest.raises(SystemExit) as done:
            main([*map(str, args), "--milvus", str(tmp_path / "milvus.db"), "--json"])
        out, err = capsys.readouterr()
        return done.value.code, json.loads(out) if out else None, err

    return call


def test_a_process_of_its_own_is_quiet_and_frees_the_file(releases, run, tmp_path):
    args = ["publish", "--release", str(releases.base.path), "--data", str(tmp_path / "data")]
    write_items(tmp_path / "data", shop(60))
    assert run(*args)[1]["embedded"] == 60
    write_items(tmp_path / "data", shop(70))
    command = [sys.executable, "-m", "taoemb", *args, "--milvus", str(tmp_path / "milvus.db"), "--json"]
    published = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (published.returncode, published.stderr) == (0, "")
    result = json.loads(published.stdout)
    assert (result["items"], result["embedded"], result["recall"]) == (70, 10, 1.0)
    code, found, _ = run("search", "red oak sofa 0", "-k", 70)
    assert (code, len(found["hits"])) == (0, 70)


def test_list_rollback_and_prune(releases, run, tmp_path):
    data = write_items(tmp_path / "data", shop(30))
    for release in (releases.other, releases.base, releases.query_only):
        assert run("publish", "--release", release.path, "--data", data)[0] == 0
    _, listed, _ = run("releases", "list")
    digests = [release.manifest.digest for release in (releases.query_only, releases.base, releases.other)]
    assert [(entry["digest"], entry["status"]) for entry in listed["releases"]] == list(
        zip(digests, ("active", "retired", "retired"), strict=True)
    )
    assert run("releases", "prune", "--keep", 1)[1]["forgotten"] == [digests[2]]
    assert run("releases", "rollback")[1]["release"] == digests[1]
    assert run("releases", "rollback", digests[0][:10])[1]["release"] == digests[0]
    code, _, err = run("releases", "rollback", digests[0])
    assert (code, "active already" in err) == (2, True)
    assert run("search", "red sofa", "-k", 2)[1]["release"] == digests[0]


def test_a_release_that_is_not_bound_is_refused_with_both_digests(releases, run, tmp_path):
    assert run("publish", "--release", releases.base.path, "--data", write_items(tmp_path / "data", shop(30)))[0] == 0
    code, _, err = run("search", "red oak sofa", "--release", releases.other.path)
    assert (code, err.count("\n")) == (2, 1)
    for release in (releases.base, releases.other):
        assert release.manifest.digest[:16] in err


def test_nothing_is_made_active_with_no_activate(releases, run, tmp_path):
    data = write_items(tmp_path / "data", shop(30))
    assert run("publish", "--release", releases.base.path, "--data", data, "--no-activate")[1]["active"] is False
    code, _, err = run("search", "red sofa")
    assert (code, "nothing is published" in err) == (2, True)


def test_one_shard_is_written_without_a_server(releases, run, tmp_path):
    data = write_items(tmp_path / "data", shop(30))
    args = ("publish", "--release", releases.base.path, "--data", data, "--bulk", tmp_path / "bulk", "--shard", "2/3")
    code, result, _ = run(*args)
    assert (code, result["items"], result["written"]) == (0, 10, True)
    assert not (tmp_path / "milvus.db").exists()
    assert run(*args)[1]["written"] is False


def test_the_table_for_people(releases, tmp_path, capsys):
    data, uri = write_items(tmp_path / "data", shop(30)), str(tmp_path / "milvus.db")
    for args in (
        ["publish", "--release", str(releases.base.path), "--data", str(data)],
        ["search", "red sofa", "-k", "2"],
        ["releases", "list"],
        ["releases", "prune"],
    ):
        with pytest.raises(SystemExit) as done:
            main([*args, "--milvus", uri])
        assert done.value.code == 0
    out = capsys.readouterr().out
    for text in ("Published to", "red sofa (release", "price", "active", "forgotten"):
        assert text in out
