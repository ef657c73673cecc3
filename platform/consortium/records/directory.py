"""The run directory: what a run leaves behind, and from what it is resumed.

A round is committed in this order: checkpoints, tables, TensorBoard, manifest. The manifest is written last and says
which round is committed, so a commit that is interrupted anywhere leaves the run at the round before; what it had
already written is ignored by readers and removed by the next writer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.common.errors import InputError, RunDirectoryError
from consortium.common.files import own_path, remove_folders
from consortium.merging.arm_state import ArmState
from consortium.records import (
    checkpoints,
    creation,
    entries,
    lock,
    manifest,
    memory,
    scalars,
    scenario_file,
    soundness,
    tables,
)
from consortium.records.code_version import versions
from consortium.records.digests import damage, differing, file_digest, unlike
from consortium.records.holding import Holding
from consortium.records.known_files import KnownFiles
from consortium.records.lock import RunLock
from consortium.records.manifest import Manifest, Note
from consortium.records.rows import ROW_TYPES, NodeRow, RoundRows, TableRow, in_batches, schema
from consortium.scenario.schema import Scenario

_ROUNDS_KEPT = 2
#: Longest wait for another process that writes the report.
_REPORT_S = 30.0

#: The stages of a commit, in their order.
STAGES = ("checkpoints", "tables", "tensorboard", "manifest")


class RunDirectory:
    """A run on disk. Reading needs no lock; the first write takes it, and :meth:`close` lets go.

    Use it as a context manager to be sure that the lock is released. Not for use by several threads. A process that
    answers for a run may let another one write (:meth:`hand_over`) and goes on holding the run.

    Attributes:
        path: the folder.
        scenario: the scenario as resolved.
        manifest: where the run stands, as last read or written by this object.
    """

    def __init__(self, path: Path, scenario: Scenario, manifest: Manifest) -> None:
        self.path = path
        self.scenario = scenario
        self.manifest = manifest
        self._holding = Holding(path)
        self._made: list[Path] = []  # folders that this process made for the run
        self._working_since: float | None = None
        self._worked_before_s = manifest.worked_s
        self._is_new = False
        self._files = KnownFiles(path, manifest, lambda: self._holding.writes)
        self._is_sound = False  # every file was looked at since this object was made
        self._sound_round: int | None = None  # whose checkpoints were found to be as they were written

    @classmethod
    def create(
        cls,
        path: str | Path,
        scenario: Scenario,
        *,
        extras: Mapping[str, Any] | None = None,
        keep_all: bool = False,
    ) -> RunDirectory:
        """Make a run directory (and its parents), locked by this process and with status running.

        Args:
            path: a folder that does not exist or is empty.
            scenario: the scenario as resolved; written to scenario.yaml.
            extras: JSON-able values to keep in the manifest, for example the command line.
            keep_all: keep the checkpoints of all rounds rather than of the newest two.

        Raises:
            RunDirectoryError: the folder is not empty, cannot be made, or is in use.
        """
        path, made = creation.prepared_run(path)
        first = Manifest(
            name=scenario.name,
            seed=scenario.seed,
            scenario=scenario.model_dump(mode="json"),
            started=manifest.now(),
            keep_all=keep_all,
            tables=tuple(ROW_TYPES),
            versions=versions(),
            machine=manifest.machine(),
            extras=_as_text(extras or {}),
        )
        directory = cls(path, scenario, first)
        directory._made = made
        try:
            with creation.refusing(path):
                directory._build()
        except BaseException:
            with suppress(OSError, RunDirectoryError):
                directory.discard()
            directory.close()
            remove_folders(made)
            raise
        return directory

    def _build(self) -> None:
        """Lock the folder and fill it, the manifest last: without it, the folder is no run yet."""
        self._holding.take()
        creation.check_new(self.path)  # another process may have been quicker between the check and the lock
        self._is_new = True
        self._working_since = time.monotonic()
        creation.clear(self.path)
        scenario_file.write_scenario(self.path, self.scenario)
        for table in ROW_TYPES:
            tables.create_table(self.path, table)
        self._write_manifest(files={each: file_digest(self.path, each) for each in map(_path_of_table, ROW_TYPES)})

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Open an existing run directory for reading; the first write locks it.

        Raises:
            RunDirectoryError: it is missing, damaged, or of another format version.
        """
        path = _existing(path)
        creation.check_made(path)
        found = manifest.read_manifest(path)
        directory = cls(path, scenario_file.read_scenario(path, found), found)
        soundness.check_round(directory)
        return directory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading

    @property
    def committed_round(self) -> int | None:
        """Last round that counts; 0 is the unedited model, None when nothing was committed."""
        return self.manifest.committed_round

    @property
    def status(self) -> str:
        """``running``, ``done``, ``failed``, or ``interrupted``: said to be running, but no process holds the lock."""
        return manifest.status_of(self.path, self.manifest)

    @property
    def worked_s(self) -> float:
        """Seconds that processes spent on this run so far, pauses between them left out."""
        if self._working_since is None:
            return self.manifest.worked_s
        return self._worked_before_s + time.monotonic() - self._working_since

    @property
    def report_path(self) -> Path:
        """Where the report lies, or will lie."""
        return self.path / "report.html"

    @property
    def scenario_text(self) -> str:
        """scenario.yaml as it stands."""
        return scenario_file.scenario_text(self.path)

    def table(self, name: str, columns: Sequence[str] | None = None, *, checked: bool = True) -> pa.Table:
        """The committed rows of a table by its name; none where the run is older than the table.

        ``columns`` are those to read, beside the round; of a table with a row for each edit, all are a lot. None for
        all. A file that is not as it was written is refused, unless ``checked`` says to take it as it is.
        """
        if name not in self.manifest.tables:
            return schema(name).empty_table()
        path = _path_of_table(name)
        while True:
            try:
                digests = self._files.digests(path) if checked else []
                return tables.read_table(self.path, name, self.committed_round, columns, digests)
            except RunDirectoryError:
                if not self._files.is_replaced_meanwhile(path):
                    raise

    def damage(self) -> str | None:
        """What is wrong with a checkpoint of the committed round, in words; None where all are as they were written."""
        return self._damage_of(self.committed_round)

    def arm_states(self) -> dict[str, ArmState]:
        """Arm → its state after the committed round, in the order they were committed in; empty before the first.

        Raises:
            RunDirectoryError: a checkpoint is missing or damaged; it is named.
        """
        if self.committed_round is None:
            return {}
        kept = self._checkpoints_of(self.committed_round)
        missing = soundness.missing_arms(self)
        if missing:
            raise unlike(self.path / manifest.MANIFEST_FILE, missing[0])
        shapes = self.manifest.layer_shapes
        states = [checkpoints.load(self.path, path, digest, shapes) for path, digest in kept.items()]
        return {state.arm: state for state in states}

    def state_of(self, arm: str, round: int | None = None) -> ArmState:
        """An arm's state after a round, the committed one by default.

        Raises:
            RunDirectoryError: the run has no such arm, no checkpoint of that round is kept, or it is damaged.
        """
        arms = [method.arm for method in self.scenario.merge.methods]
        if arm not in arms:
            raise RunDirectoryError(
                f"{self.path} has no arm {arm!r}.", f"one of {', '.join(arms)}.", "name one of them."
            )
        number = self.committed_round if round is None else round
        path = None if number is None else checkpoints.checkpoint_path(arm, number)
        if path not in self.manifest.checkpoints or (number or 0) > (self.committed_round or 0):
            kept = sorted({int(Path(each).parent.name.removeprefix("round-")) for each in self.manifest.checkpoints})
            found = "no round is committed" if number is None else f"no checkpoint of round {number} is kept"
            raise RunDirectoryError(
                f"{self.path}: {found}.",
                f"one of the rounds {', '.join(map(str, kept))}." if kept else "a run with a committed round.",
                "the newest two rounds are kept; for an earlier one, run the scenario again with fewer rounds.",
            )
        digest = self.manifest.checkpoints[path]
        return checkpoints.load(self.path, path, digest, self.manifest.layer_shapes)

    def differences(self) -> tuple[str, ...]:
        """What of the run is not as it was written, in words; every file is read. Empty where all is.

        Checkpoints of the committed round are among it; where only they are damaged, :meth:`repair` goes back a round.
        """
        found = [*self._files.damages(), *soundness.damaged_checkpoints(self)]
        arms = [f"{manifest.MANIFEST_FILE} {what}" for what in soundness.missing_arms(self)]
        return tuple(dict.fromkeys([*found, *arms, *(soundness.misfits(self) if not found else ())]))

    def recall(self, key: str, default: Any = None) -> Any:
        """What :meth:`remember` was last given for ``key``, as JSON gives it back (tuples become lists)."""
        return self._memory().get(key, default)

    # Writing

    def lock(self) -> None:
        """Become the one writer, look again where the run stands, and remove what interrupted commits left.

        Raises:
            RunDirectoryError: another process (or another object of this one) is writing; it is named.
        """
        if self._holding.writes:
            self._holding.check()
            return
        held_before = self._holding.holds
        self._holding.take()
        try:
            found = manifest.read_manifest(self.path)
            self._is_sound = self._is_sound and found == self.manifest  # another process wrote meanwhile
            self.manifest = self._files.latest = found
            self.scenario = scenario_file.read_scenario(self.path, self.manifest)
            self._settle_scenario()
            self._drop_uncommitted()
            self._drop_rows()
        except BaseException:
            if not held_before:
                self.close()
            raise
        self._worked_before_s = self.manifest.worked_s
        self._working_since = time.monotonic()

    @property
    def is_already_known(self) -> bool:
        """Whether this process is the one that writes."""
        return self._holding.writes

    def hand_over(self) -> str:
        """Let the bearer of what is returned write, and go on holding the run; :meth:`lock` takes the pen back."""
        self.lock()
        self._working_since = None
        return self._holding.hand_over()

    def lock_by(self, permit: str) -> None:
        """Become the one writer for a process that holds the run.

        Raises:
            RunDirectoryError: another one writes, or the permit is void.
        """
        self._holding.show(permit)
        self.lock()

    def close(self) -> None:
        """Let other processes write."""
        self._holding.release()
        self._working_since = None

    def discard(self) -> None:
        """Remove what this process made of a run of which nothing was committed; whatever else is there stays."""
        if not (self._is_new and self._holding.writes and self.committed_round is None):
            return
        creation.remove_run(self.path)
        self._holding.remove()
        remove_folders(self._made)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Be the one who writes the report, of how the run stands now: the last one written is of the newest state."""
        own = RunLock(self.path, lock.REPORT, "reported on")
        own.acquire(_REPORT_S)
        try:
            if not self.is_already_known:
                self.manifest = self._files.latest = manifest.read_manifest(self.path)
            yield
        finally:
            own.release()

    def commit(
        self,
        round: int,
        states: Sequence[ArmState],
        rows: RoundRows,
        reached: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """Make a round count: all of it, or after an interruption nothing of it.

        Args:
            round: the round after the committed one; 0 (the unedited model) for the first commit.
            states: the state of every arm after the round.
            rows: what the round adds to the tables; each row is of this round.
            reached: told of each of :data:`STAGES` before it begins.
        """
        self.lock()
        assert round == self._next_round, f"round {round} committed after {self.committed_round}"
        assert all(state.round == round for state in states), f"an arm's state is not of round {round}"
        self._drop_uncommitted()
        reached("checkpoints")
        written = {
            checkpoints.checkpoint_path(state.arm, round): checkpoints.save(self.path, state) for state in states
        }
        reached("tables")
        grown = self._files.replace(
            self._write_manifest,
            {
                _path_of_table(table): partial(
                    _append, self.path, table, _of_round(table, rows.of(table), round), round
                )
                for table in self.manifest.tables
            },
        )
        reached("tensorboard")
        scalars.write_scalars(self.path, rows, round)
        added = {path: file_digest(self.path, path) for path in scalars.files_of(self.path, round)}
        reached("manifest")
        self._write_manifest(
            committed_round=round,
            checkpoints=self._kept_checkpoints(round) | written,
            layer_shapes=_layer_shapes(states) or self.manifest.layer_shapes,
            untold=(),
            **self._files.resolution(grown | added),
        )
        self._drop_uncommitted()

    def add_nodes(self, rows: Sequence[NodeRow]) -> None:
        """Add what was seen of the cluster after the last commit; nothing where the run is older than the table."""
        self.lock()
        if "nodes" not in self.manifest.tables:
            return
        last = self._next_round - 1
        of_last = self.table("nodes").filter(pc.field("round") == last)
        grown = partial(_append, self.path, "nodes", [of_last, *_of_round("nodes", rows, last)], last)
        self._write_manifest(
            **self._files.resolution(self._files.replace(self._write_manifest, {_path_of_table("nodes"): grown}))
        )

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON-able value for later processes; independent of rounds."""
        self.lock()
        text = memory.memory_text(self._memory() | {key: value})
        written = self._files.replace(
            self._write_manifest, {memory.MEMORY_FILE: partial(Path.write_text, data=text, encoding="utf-8")}
        )
        self._write_manifest(**self._files.resolution(written))

    def note(self, kind: str, detail: str) -> None:
        """Have the next commit tell of something as an event, whoever makes it."""
        self.lock()
        self._write_manifest(untold=(*self.manifest.untold, Note(kind=kind, detail=detail)))

    def hold_against(self, inputs: Mapping[str, str], surroundings: Mapping[str, str]) -> list[str]:
        """Compare what the run depends on with what it began with, and write down what is new.

        Args:
            inputs: name → SHA-256 of what results depend on.
            surroundings: name → value of what it is computed with.

        Returns:
            What differs and is gone on with, in words.

        Raises:
            RunDirectoryError: an input differs, and changes are not accepted; all that differs is named.
        """
        others = _compared(self.manifest.surroundings, surroundings, len)
        changed = _compared(self.manifest.inputs, inputs, lambda digest: 12)
        if changed and not self.manifest.accepts_changes:
            raise RunDirectoryError(
                f"{self.path} was begun with other inputs: {'; '.join([*changed, *others])}.",
                "what the run began with.",
                "put back what was changed, or run the scenario again into another folder; `consortium resume "
                f"{self.path} --accept-changes` goes on with what is there now, and records it.",
            )
        new = {
            "inputs": self.manifest.inputs | dict(inputs),
            "surroundings": self.manifest.surroundings | dict(surroundings),
        }
        if new != {"inputs": self.manifest.inputs, "surroundings": self.manifest.surroundings}:
            self.lock()
            self._write_manifest(**new)
        return [*changed, *others]

    def accept_changes(self, accepts: bool) -> None:
        """From now on record other inputs rather than refuse them, or the other way round."""
        if accepts != self.manifest.accepts_changes:
            self.lock()
            self._write_manifest(accepts_changes=accepts)

    def change_scenario(self, scenario: Scenario) -> list[str]:
        """Go on with another scenario, of which nothing concerns committed rounds; returns what is other, in words."""
        was, now = self.scenario.model_dump(mode="json"), scenario.model_dump(mode="json")
        words = differing(was, now)
        if not words:
            return []
        self.lock()
        goes_on = (self.committed_round or 0) < scenario.stream.rounds
        status = {"status": "running", "error": None, "finished": None} if goes_on else {}
        note = Note(kind="scenario-changed", detail="; ".join(words))
        self._write_manifest(scenario=now, replaced=was, untold=(*self.manifest.untold, note), **status)
        self.scenario = scenario
        self._settle_scenario()
        return words

    def _settle_scenario(self) -> None:
        """Have scenario.yaml say what the manifest has; a process may have ended between the two."""
        if self.manifest.replaced is not None:
            scenario_file.write_scenario(self.path, self.scenario)
            self._write_manifest(replaced=None)

    def repair(self) -> str | None:
        """Mend what can be mended; what was done says it in words.

        The run goes back to the newest round of which every checkpoint is as it was written. Checkpoints of the newest
        two rounds are kept (or all), so this is one round. From the unedited model, round 0, there is a way back to
        before the first commit. The manifest goes back in one step; tables and TensorBoard follow it, as after an
        interrupted commit. Files of TensorBoard that are missing or damaged are made again from the tables.

        Returns:
            What was wrong, and where the run is now; None where nothing was.

        Raises:
            RunDirectoryError: no round that is kept has all its checkpoints, or another file is damaged; it is named.
        """
        if self._is_sound:
            return None
        # First, since nothing is to be changed where this cannot be mended.
        for path in self._files.paths():
            if scalars.round_of(path) is None:
                self._files.check(path)
        done = [words for words in (self._go_back(), self._mend_scalars()) if words is not None]
        misfits = soundness.misfits(self)
        if misfits:
            raise unlike(self.path, f"holds what does not fit together: {'; '.join(misfits)}")
        self._is_sound = True
        return "; ".join(done) or None

    def _go_back(self) -> str | None:
        what = self.damage()
        if what is None or self.committed_round is None:
            return None
        self.lock()
        target = self._newest_sound_round(what)
        place = "before its first commit" if target is None else f"after round {target}"
        words = f"{what}; the run goes back to where it was {place}"
        self._write_manifest(
            status="running",
            error=None,
            finished=None,
            committed_round=target,
            checkpoints={path: digest for path, digest in self.manifest.checkpoints.items() if _is_until(path, target)},
            files=scalars.until(self.manifest.files, target),
            untold=(*self.manifest.untold, Note(kind="went-back", detail=words)),
        )
        self._drop_uncommitted()
        self._drop_rows()
        return words

    def _mend_scalars(self) -> str | None:
        events = {path: number for path in self._files.paths() if (number := scalars.round_of(path)) is not None}
        broken = [path for path in events if self._files.damage(path) is not None]
        if not broken:
            return None
        self.lock()
        files = dict(self.manifest.files)
        for number in sorted({events[path] for path in broken}):
            for path in (*scalars.files_of(self.path, number), *(each for each in events if events[each] == number)):
                entries.remove_entry(self.path, path)
                files.pop(path, None)
            scalars.write_scalars(self.path, scalars.source(number, self.table), number)
            files |= {path: file_digest(self.path, path) for path in scalars.files_of(self.path, number)}
        words = f"{', '.join(broken)}: missing or damaged, and made again from the tables"
        self._write_manifest(files=files, untold=(*self.manifest.untold, Note(kind="mended", detail=words)))
        return words

    def mark_running(self) -> None:
        """Say that work goes on; on a run directory that was opened, that it was resumed."""
        self.lock()
        self.repair()
        resumed = self.manifest.resumed if self._is_new else (*self.manifest.resumed, manifest.now())
        self._write_manifest(status="running", error=None, finished=None, resumed=resumed)

    def mark_done(self) -> None:
        """Say that all rounds are committed."""
        self.lock()
        self._write_manifest(status="done", error=None, finished=manifest.now())

    def mark_failed(self, error: BaseException | str) -> None:
        """Say that the run stopped, and why.

        Raises:
            RunDirectoryError: the run is in another's hands; who does not hold it says nothing about it.
        """
        if not self._holding.holds:
            raise RunDirectoryError(
                f"{self.path} is not held by this process.", "a run that this process works on.", "lock it first."
            )
        self.lock()
        self._write_manifest(status="failed", error=str(error), finished=manifest.now())

    def write_error(self, text: str) -> str:
        """Keep the details of what went wrong in error.txt; returns its path."""
        self.lock()
        entries.write_entry(self.path, "error.txt", text)
        return str(self.path / "error.txt")

    @property
    def _next_round(self) -> int:
        return 0 if self.committed_round is None else self.committed_round + 1

    def _kept_checkpoints(self, round: int) -> dict[str, str]:
        """Entries of the manifest that stay when ``round`` is committed."""
        if self.manifest.keep_all:
            return self.manifest.checkpoints
        kept = {checkpoints.folder_of(each) for each in range(round - _ROUNDS_KEPT + 1, round)}
        return {path: digest for path, digest in self.manifest.checkpoints.items() if str(Path(path).parent) in kept}

    def _damage_of(self, round: int | None) -> str | None:
        if round is None or round == self._sound_round:
            return None
        for path, digest in self._checkpoints_of(round).items():
            what = damage(self.path, path, [digest])
            if what is not None:
                return f"{path} {what}"
        self._sound_round = round
        return None

    def _checkpoints_of(self, round: int) -> dict[str, str]:
        folder = checkpoints.folder_of(round)
        return {path: digest for path, digest in self.manifest.checkpoints.items() if str(Path(path).parent) == folder}

    def _newest_sound_round(self, what: str) -> int | None:
        """The newest round before the committed one to go back to; ``what`` is wrong with that one."""
        assert self.committed_round is not None
        found = [what]
        for round in range(self.committed_round - 1, -1, -1):
            if not self._checkpoints_of(round):
                break
            other = self._damage_of(round)
            if other is None:
                return round
            found.append(other)
        if self.committed_round == 0:
            return None
        raise RunDirectoryError(
            f"No checkpoint to go on from is left in {self.path}: {'; '.join(found)}.",
            "all checkpoints of the committed round, or of the round before it, as Consortium wrote them.",
            "restore them from a copy, or run the scenario again into another folder (the same seed gives the same "
            "run).",
        )

    def _drop_rows(self) -> None:
        too_late = self._next_round
        lasts = {table: tables.last_round(self.path, table) for table in self.manifest.tables}
        longer = [table for table, last in lasts.items() if last is not None and last >= too_late]
        if longer:
            cut = {_path_of_table(table): partial(_append, self.path, table, [], too_late) for table in longer}
            self._write_manifest(**self._files.resolution(self._files.replace(self._write_manifest, cut)))

    def _drop_uncommitted(self) -> None:
        entries.remove_temporaries(self.path)
        checkpoints.keep_only(self.path, self.manifest.checkpoints)
        scalars.drop_from(self.path, self._next_round)

    def _write_manifest(self, **changes: Any) -> None:
        self._holding.check()
        changed = self.manifest.model_copy(update={"worked_s": round(self.worked_s, 3), **changes})
        manifest.write_manifest(self.path, changed)
        self.manifest = self._files.latest = changed

    def _memory(self) -> dict[str, Any]:
        if not self._files.digests(memory.MEMORY_FILE):
            return {}
        self._files.check(memory.MEMORY_FILE)
        return memory.read_memory(self.path, len(self.scenario.faults))


def _compared(was: Mapping[str, str], now: Mapping[str, str], width: Callable[[str], int]) -> list[str]:
    """What differs, in words; what is new differs from nothing. Values are cut off after ``width`` characters."""
    others = [name for name in now if name in was and was[name] != now[name]]
    return [f"{name} was {was[name][: width(was[name])]}, is {now[name][: width(now[name])]}" for name in others]


def _of_round(table: str, rows: Iterable[TableRow], round: int) -> Iterator[pa.Table]:
    for batch in in_batches(table, rows):
        assert pc.all(pc.equal(batch["round"], round)).as_py(), f"a row of {table} is not of round {round}"
        yield batch


def _append(folder: Path, table: str, new: Iterable[pa.Table], round: int, target: Path) -> None:
    tables.append(folder, table, new, round, target)


def _path_of_table(table: str) -> str:
    return tables.table_path(Path(), table).as_posix()


def _is_until(path: str, round: int | None) -> bool:
    """Whether a checkpoint is of a round or of one before it; None comes before all."""
    return round is not None and int(Path(path).parent.name.rpartition("-")[2]) <= round


def _layer_shapes(states: Sequence[ArmState]) -> dict[int, tuple[int, int]]:
    if not states:
        return {}
    return {layer: (weight.shape[0], weight.shape[1]) for layer, weight in states[0].weights.items()}


def _as_text(extras: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able values, with ``?`` for bytes of file names that are no text."""
    found: dict[str, Any] = json.loads(json.dumps(extras, ensure_ascii=False).encode("utf-8", "replace"))
    return found


def _existing(path: str | Path) -> Path:
    try:
        return own_path(str(path))
    except InputError as error:
        raise RunDirectoryError(error.found, "a folder that `consortium run` made.", error.remedy) from None
