"""A lock that cannot be had for another reason than its holder."""

from __future__ import annotations

import errno
import os

import pytest
from consortium.common.errors import RunDirectoryError
from consortium.records import lock


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_not_the_lock_files_fault(tmp_path, monkeypatch, number):
    def refuse(*_arguments, **_settings):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.os, "open", refuse)
    with pytest.raises(RunDirectoryError, match="copy the run") as caught:
        lock.is_locked(tmp_path)
    assert "remove it" not in str(caught.value)
