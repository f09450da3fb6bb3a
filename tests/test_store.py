"""Files are replaced in one step: synced, renamed, the folder synced; whatever fails before, the old one is there, whole."""

from __future__ import annotations

import os

import numpy as np
import pytest

from kdvr_fast import _store


def write(path, value):
    _store.write(path, "kdvr-test", 1, {"value": value}, {"x": np.full(3, value)})


def test_a_file_is_on_the_disk_before_it_has_its_name_and_then_the_name_is(tmp_path, monkeypatch):
    path, done = tmp_path / "file", []
    fsync, rename = os.fsync, os.replace

    def synced(handle):
        done.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def renamed(source, target):
        done.append(("rename", source.name, target.name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write(path, 1)
    assert done == [("sync", ".file.tmp"), ("rename", ".file.tmp", "file"), ("sync", tmp_path.name)]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_what_fails_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    write(path, 1)

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="Input/output error"):
            write(path, 2)
    assert _store.read(path, "kdvr-test", 1)[0] == {"value": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_a_kill_left_is_written_over(tmp_path):
    (tmp_path / ".file.tmp").write_bytes(b"half of an older")
    write(tmp_path / "file", 3)
    assert _store.read(tmp_path / "file", "kdvr-test", 1)[1]["x"].tolist() == [3, 3, 3]
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    write(tmp_path / "file", 1)
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.arange(12.0).reshape(3, 4).T, np.zeros(4, bool), np.float32([1, np.nan])])
def test_arrays_of_any_form_come_back(tmp_path, x):
    _store.write(tmp_path / "file", "kdvr-test", 1, {}, {"x": x})
    again = _store.read(tmp_path / "file", "kdvr-test", 1)[1]["x"]
    np.testing.assert_array_equal(again, x)
    assert again.dtype == x.dtype
