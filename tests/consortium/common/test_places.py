import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest
from consortium.common import places
from consortium.common.errors import ClusterError, InputError
from consortium.common.places import (
    cache_folder,
    can_write,
    has_home,
    private_folder,
    refuse_client,
    refuse_remote,
    scheme_of,
)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
    return folder


def unwritable(monkeypatch, folder):
    """As for a user who may not write below ``folder``; root may, whatever a folder's mode says."""
    access = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not (mode & os.W_OK and Path(path).is_relative_to(folder)) and access(path, mode),
    )


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CONSORTIUM_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONSORTIUM_CACHE", "~/there")
    assert cache_folder() == tmp_path / "there"
    monkeypatch.delenv("CONSORTIUM_CACHE")
    assert cache_folder() == tmp_path / ".cache" / "consortium"


@pytest.mark.parametrize("home", ["/nonexistent/at/all", "relative", None])
def test_without_a_home_the_cache_is_a_private_folder(home, temporary, monkeypatch):
    monkeypatch.delenv("CONSORTIUM_CACHE", raising=False)
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", home or "~"))  # a user nobody knows
    assert not has_home()
    assert cache_folder() == temporary / f"consortium-{os.getuid()}" / "cache"


def test_so_it_is_with_a_home_that_cannot_be_written(tmp_path, temporary, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv("CONSORTIUM_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(home))
    unwritable(monkeypatch, home)
    assert cache_folder().is_relative_to(temporary)


def test_so_it_is_with_a_home_that_is_closed_to_the_user(tmp_path, temporary, monkeypatch):
    """A container's HOME is that of root, and another user runs it: root's home is there, and nothing below is seen."""
    home, look = tmp_path / "root", os.stat
    home.mkdir()

    def stat_as_another(path, *arguments, **options):
        if Path(path) != home and Path(path).is_relative_to(home):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, *arguments, **options)

    monkeypatch.delenv("CONSORTIUM_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "access", lambda path, _mode, found=os.access: path != home and found(path, _mode))
    monkeypatch.setattr(os, "stat", stat_as_another)
    assert not has_home()
    assert not can_write(home / ".config")
    assert cache_folder() == temporary / f"consortium-{os.getuid()}" / "cache"


@pytest.mark.parametrize("named", ["s3://bucket/cache", "~nosuchuser/cache", "closed/cache"])
def test_a_cache_that_cannot_be_is_refused_by_its_name(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unwritable(monkeypatch, tmp_path)
    monkeypatch.setenv("CONSORTIUM_CACHE", named)
    with pytest.raises(InputError, match="CONSORTIUM_CACHE") as caught:
        cache_folder()
    assert named in caught.value.found


def test_the_private_folder_is_its_users_alone(temporary):
    (temporary / f"consortium-{os.getuid()}").mkdir(mode=0o755)
    folder = private_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder() == folder


def test_a_link_that_somebody_put_there_is_not_followed(temporary, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (temporary / f"consortium-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="not a folder of your own"):
        private_folder()


def test_nor_is_another_users_folder_used(temporary, monkeypatch):
    private_folder()
    real = os.getuid()
    calls = iter([real, real + 1])
    monkeypatch.setattr(places.os, "getuid", lambda: next(calls))
    with pytest.raises(InputError, match="not a folder of your own"):
        private_folder()


def test_no_folder_for_temporary_files_is_said(monkeypatch):
    def none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(InputError, match="there is no place for temporary files: No usable"):
        private_folder()


@pytest.mark.parametrize("place", ["s3://bucket/run", "gs://b", "hdfs://n/x", "file:///tmp/x", "HTTPS://x"])
def test_places_elsewhere_are_refused(place):
    with pytest.raises(InputError, match=r"--out .*: Consortium does not read or write"):
        refuse_remote(place, "--out")
    with pytest.raises(ClusterError, match="does not connect by"):
        refuse_client(place)


@pytest.mark.parametrize("place", ["runs/a", "/tmp/a:b", "C:/x", "s3:/b", "a b://c", "~x/y"])
def test_paths_are_paths(place):
    assert scheme_of(place) is None
    refuse_remote(place, "--out")
