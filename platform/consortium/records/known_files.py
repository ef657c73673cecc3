"""The files of a run whose digests the manifest has: looked at, and replaced so that it has them at every moment.

A file that is replaced has two digests in the manifest, written before: that of the old one, and in ``pending`` that of
the new one. So a process that ends anywhere leaves files that the manifest knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from consortium.common.files import sha256
from consortium.records import entries, manifest
from consortium.records.digests import damage, file_digest, unlike
from consortium.records.manifest import Manifest


class KnownFiles:
    """A run's files, by their paths relative to the run directory.

    Args:
        folder: the run directory.
        latest: the manifest as last read or written.
        is_writer: whether nobody else may write.
    """

    def __init__(self, folder: Path, latest: Manifest, is_writer: Callable[[], bool]) -> None:
        self._folder = folder
        self.latest = latest
        self._is_writer = is_writer

    def digests(self, path: str) -> list[str]:
        """The digests that a file may have: two, where a process ended while the file was being replaced."""
        return [known[path] for known in (self.latest.files, self.latest.pending) if path in known]

    def is_replaced_meanwhile(self, path: str) -> bool:
        """Whether the manifest knows other digests of a file by now: another process writes, and told them first."""
        if self._is_writer():
            return False
        before, self.latest = self.digests(path), manifest.read_manifest(self._folder)
        return self.digests(path) != before

    def damage(self, path: str) -> str | None:
        """What is wrong with a file, in words; None where it is as it was written."""
        while True:
            what = damage(self._folder, path, self.digests(path))
            if what is None or not self.is_replaced_meanwhile(path):
                return what

    def paths(self) -> list[str]:
        """All files, in order."""
        return sorted({*self.latest.files, *self.latest.pending})

    def damages(self) -> list[str]:
        """What is wrong with any file, in words."""
        return [f"{path} {what}" for path in self.paths() if (what := self.damage(path)) is not None]

    def check(self, path: str) -> None:
        """Raise RunDirectoryError where a file is not as it was written."""
        what = self.damage(path)
        if what is not None:
            raise unlike(self._folder / path, what)

    def replace(
        self, write_manifest: Callable[..., None], writers: Mapping[str, Callable[[Path], object]]
    ) -> dict[str, str]:
        """Put other files in the places of old ones, which must be as they were written.

        Args:
            write_manifest: writes the manifest with other ``files`` and ``pending``.
            writers: path → writes the new file to where it is told.

        Returns:
            Path → SHA-256 of the new files, for :meth:`resolution`.
        """
        present = {path: self._digest_now(path) for path in writers if self.digests(path)}
        with ExitStack() as replacements:
            # They leave the stack in reverse, so the first one is replaced first.
            paths = reversed(list(writers))
            temporaries = {
                path: replacements.enter_context(entries.replacing_entry(self._folder, path)) for path in paths
            }
            for path, write in writers.items():
                write(temporaries[path])
            new = {path: _digest_of(temporaries[path]) for path in writers}
            write_manifest(files=self.latest.files | present, pending=self.latest.pending | new)
        return new

    def _digest_now(self, path: str) -> str:
        self.check(path)
        return file_digest(self._folder, path)

    def resolution(self, new: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """``files`` and ``pending`` of the manifest once files have their new digests."""
        pending = {path: digest for path, digest in self.latest.pending.items() if path not in new}
        return {"files": self.latest.files | dict(new), "pending": pending}


def _digest_of(temporary: Path) -> str:
    with temporary.open("rb") as file:
        return sha256(file)
