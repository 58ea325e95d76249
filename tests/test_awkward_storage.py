"""A full or read-only disk is told in one line and keeps what it had; what is written, others may read."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from taoemb.data.files import write_table
from taoemb.data.synth import synthesise
from taoemb.errors import InputError, TaoembError
from taoemb.evaluation.new_files import new_files
from taoemb.storage import check_writable, new_folder, share_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def fill_with_parquet(folder: Path) -> None:
    write_table(folder / "items.parquet", pa.table({"x": torch.rand(200_000).numpy()}))


def fill_with_text(folder: Path) -> None:
    (folder / "x.txt").write_text("x" * 1_000_000)


def fill_with_weights(folder: Path) -> None:
    save_file({"x": torch.rand(200_000)}, folder / "model.safetensors")


@pytest.mark.parametrize("fill", [fill_with_parquet, fill_with_text, fill_with_weights])
@pytest.mark.parametrize("there", [False, True])
def test_awkward_full_disk_keeps_what_it_had(small_disk: Path, fill, there: bool) -> None:
    out = small_disk / "deep" / "out"
    if there:
        with new_folder(out) as folder:
            (folder / "kept").write_text("kept")
    with (
        pytest.raises(TaoembError, match=r"deep/out: No space left on device; free some space") as failure,
        new_folder(out, SafetensorError) as folder,
    ):
        fill(folder)
    assert not isinstance(failure.value, InputError)
    left = sorted(str(path.relative_to(small_disk)) for path in small_disk.rglob("*"))
    assert left == (["deep", "deep/out", "deep/out/kept"] if there else [])


def test_awkward_full_disk_keeps_an_older_report(small_disk: Path) -> None:
    with new_files(small_disk / "out") as folder:
        (folder / "report.html").write_text("old")
    with pytest.raises(TaoembError, match="No space left"), new_files(small_disk / "out") as folder:
        (folder / "report.html").write_text("x" * 1_000_000)
    assert (small_disk / "out" / "report.html").read_text() == "old"
    assert [path.name for path in (small_disk / "out").iterdir()] == ["report.html"]


def test_awkward_read_only_disk_is_bad_input(small_disk: Path) -> None:
    read_only(small_disk)
    with pytest.raises(InputError, match=r"disk/shop: Read-only file system; give a folder"):
        synthesise(small_disk / "shop", 300, 60, 0)
    with pytest.raises(InputError, match="Read-only file system"):
        check_writable(small_disk / "a" / "b")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("x" * 300, "File name too long"),
        ("a.txt/shop", "(Not a directory|File exists)"),
        ("x" * 250, None),
        ("ü" * 120, None),
    ],
)
def test_awkward_paths(tmp_path: Path, place: str, says: str | None) -> None:
    (tmp_path / "a.txt").write_text("a file")
    out = tmp_path / place
    if says is None:
        with new_folder(out) as folder:
            (folder / "x").touch()
        assert (out / "x").exists()
        return
    with pytest.raises(InputError, match=says), new_folder(out):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_elsewhere_that_can_not_be_read_is_not_blamed_on_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "out"):
        (tmp_path / "missing").read_text()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_awkward_weights_have_the_mode_of_the_umask(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    earlier = os.umask(umask)
    try:
        with new_folder(tmp_path / "out") as new:
            save_file({"x": torch.ones(2)}, new / "model.safetensors")
            (new / "inner").mkdir(0o700)
            save_file({"x": torch.ones(2)}, new / "inner" / "model.safetensors")
            (new / "link").symlink_to("/etc/shadow")
        with new_files(tmp_path / "report") as new:
            save_file({"x": torch.ones(2)}, new / "bank.safetensors")
        save_file({"x": torch.ones(2)}, tmp_path / "alone")
        share_file(tmp_path / "alone")
    finally:
        os.umask(earlier)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) == 4
    assert {mode(path) for path in files} == {file}
    assert {mode(path) for path in tmp_path.rglob("*") if path.is_dir()} == {folder}
