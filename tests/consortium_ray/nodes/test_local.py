"""Where a Ray that is started here keeps its files."""

from __future__ import annotations

import pytest
from consortium.common.errors import ClusterError
from consortium_ray.nodes.local import _folder


@pytest.mark.parametrize(
    ("name", "reason"), [("d" * 120, "characters"), ("file/below", "cannot be written|no folder"), ("file", "")]
)
def test_a_folder_that_does_not_fit_is_refused_before_it_is_made(tmp_path, monkeypatch, name, reason):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / name))
    monkeypatch.setattr("consortium_ray.nodes.local._LONGEST", len(str(tmp_path)) + 40)
    with pytest.raises(ClusterError, match=f"RAY_TMPDIR is .*({reason})"):
        _folder()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_fits_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "new"))
    monkeypatch.setattr("consortium_ray.nodes.local._LONGEST", len(str(tmp_path)) + 40)
    assert _folder() == str(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
