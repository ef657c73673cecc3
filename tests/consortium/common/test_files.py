"""Files are whole or absent, whatever happens to their writers."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from consortium.common.files import read_arrays, replacing, write_arrays, write_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_bytes_are_read_back_and_replace_older_ones(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    write_bytes(path, b"old, and longer")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_a_writer_that_stops_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"ne")
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    """Both hold their temporary file at the same time, so they must not share one."""
    path = tmp_path / "file.bin"
    meet = threading.Barrier(2, timeout=10)

    def write(letter: bytes) -> None:
        with replacing(path) as temporary:
            meet.wait()
            temporary.write_bytes(letter * 10_000)
            meet.wait()

    with ThreadPoolExecutor(2) as pool:
        for written in [pool.submit(write, letter) for letter in (b"a", b"b")]:
            written.result(timeout=20)
    assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000)
    assert names(tmp_path) == ["file.bin"]


def test_arrays_come_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "arrays.safetensors"
    arrays = {"gram": np.linspace(0, 1, 6).reshape(2, 3).T, "count": np.array([7], dtype=np.int64)}
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert found is not None
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("damage", ["cut", "emptied", "no safetensors", "a folder", "absent"])
def test_arrays_that_cannot_be_read_are_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "arrays.safetensors"
    write_arrays(path, {"gram": np.eye(8)})
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "absent":
        path.write_bytes({"cut": content[:-9], "emptied": b"", "no safetensors": b"x" * 200}[damage])
    assert read_arrays(path) is None


def test_what_is_no_regular_file_holds_no_arrays_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert read_arrays(tmp_path / "pipe") is None
    assert read_arrays(tmp_path / "folder") is None
