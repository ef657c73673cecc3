"""From the scenario's ``facts`` section to a fact set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

from consortium.common.errors import FactsError
from consortium.common.reading import expanded, is_file, is_folder, why_no_file
from consortium.data.augmentations import read_augmentations, with_augmentations
from consortium.data.builtin import builtin_edits
from consortium.data.edit import Edit, FactSet
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError
from consortium.data.formats.registry import Parsed, find_format, likely_formats
from consortium.data.source import FILE_KINDS, hub_files, read_file, read_files, read_hub
from consortium.data.table import FactTable
from consortium.scenario.schema import FactsSpec

_log = logging.getLogger(__name__)
_HUB = "hub:"
#: Records that are looked at to tell the format.
_LOOKED_AT = 100


def load_facts(spec: FactsSpec, base_dir: Path | None = None) -> FactSet:
    """The facts that a scenario names, all read and checked; the first ``spec.limit`` of them count.

    Templates of ``spec.augmentations`` are added to them.

    Args:
        spec: source, format, split and limit. ``auto`` stands for ``builtin`` here; facts that the associative
            model draws are made with that model, so ``synthetic`` is refused.
        base_dir: folder against which relative paths are tried before the working directory.

    Raises:
        FactsError: a source that is missing, empty or cannot be reached, or a malformed record.
    """
    if spec.source == "synthetic":
        raise FactsError(
            "facts.source: synthetic", "a source of text for a language model", "use builtin or name a file"
        )
    numbers: dict[str, int] = {}
    edits = _read(spec, base_dir, numbers)
    if spec.augmentations is not None:
        edits = with_augmentations(
            edits, read_augmentations(_find(spec.augmentations, base_dir, "facts.augmentations"))
        )
    return FactTable(edits, spec.limit, numbers)


def _read(spec: FactsSpec, base_dir: Path | None, numbers: dict[str, int]) -> tuple[Edit, ...]:
    if spec.source in ("auto", "builtin"):
        return builtin_edits()
    return parse_records(_records(spec, base_dir), spec.format, spec.source, numbers)


def _records(spec: FactsSpec, base_dir: Path | None) -> Iterator[Record]:
    if not spec.source.startswith(_HUB):
        return read_file(_find(spec.source, base_dir))
    name = _hub_name(spec.source.removeprefix(_HUB), base_dir)
    return read_files(hub_files(name, spec.files)) if spec.files else read_hub(name, spec.config, spec.split)


def parse_records(
    records: Iterator[Record], format_name: str, source: str, numbers: dict[str, int] | None = None
) -> tuple[Edit, ...]:
    """Edits of all records; FactsError for the first malformed one, a second use of an id, or no records at all.

    ``numbers`` is told the record of each, by the edit's id.
    """
    first = list(islice(records, _LOOKED_AT))
    if not first:
        raise FactsError(f"{source} is empty", "at least one record", "name another source")
    name, found_format = find_format(format_name, first)
    edits: dict[str, Edit] = {}
    seen: dict[str, Record] = {}
    skipped: list[str] = []
    skipped_probes: list[str] = []
    for record in chain(first, records):
        for found in _parsed(found_format.parse, record, name):
            if isinstance(found, SkippedProbeError):
                skipped_probes.append(f"record {record.number}: {found}")
            elif isinstance(found, SkippedRecordError):
                skipped.append(f"record {record.number}: {found}")
            elif found.fact_id in edits:
                used = f"id {found.fact_id!r} was used by record {seen[found.fact_id].number} already"
                raise FactsError(f"{record.place}: {used}", "an id that is unique in the source", "rename one of them")
            else:
                edits[found.fact_id], seen[found.fact_id] = found, record
    if not edits:
        raise FactsError(
            f"{source}: no record can be used ({_examples(skipped)})", "records that can be edited", "name another"
        )
    if skipped:
        total = len(edits) + len(skipped)
        _log.warning("%s: %d of %d records left out (%s)", source, len(skipped), total, _examples(skipped))
    if skipped_probes:
        number = len(skipped_probes)
        noun = "question" if number == 1 else "questions"
        _log.warning("%s: %d %s left out (%s)", source, number, noun, _examples(skipped_probes))
    (numbers if numbers is not None else {}).update((fact_id, record.number) for fact_id, record in seen.items())
    return tuple(edits.values())


def _parsed(
    parse: Callable[[Record], Parsed], record: Record, name: str
) -> tuple[Edit | SkippedRecordError | SkippedProbeError, ...]:
    """What a record gives: edits, and reasons for what of it is left out."""
    try:
        parsed = parse(record)
    except SkippedRecordError as reason:
        return (reason,)
    except FactsError as error:
        others = [each for each in likely_formats(record.fields) if each != name]
        likely = f"; its fields look like {' or '.join(others)}" if others else ""
        remedy = f"correct the record, which was read in the format {name}, or name another in facts.format{likely}"
        raise FactsError(error.found, error.expected, remedy) from error
    return parsed if isinstance(parsed, tuple) else (parsed,)


def _examples(reasons: list[str]) -> str:
    return "; ".join(reasons[:3]) + ("; …" if len(reasons) > 3 else "")


def _find(source: str, base_dir: Path | None, key: str = "facts.source") -> Path:
    """The file named by ``source`` under a key: beside the scenario if it is there, else from the working directory."""
    is_source = key == "facts.source"
    tried = _candidates(source, base_dir)
    for path in tried:
        if is_file(path):
            return path
    kinds = f"a file of {FILE_KINDS}" if is_source else "a JSON file"
    for path in tried:
        why = why_no_file(path)
        if why is not None:
            remedy = "name a file in it, or write hub:FOLDER" if is_source and is_folder(path) else "name a file"
            raise FactsError(f"{key}: {source} {why}", kinds, remedy)
    raise FactsError(
        f"{key}: no file {source} (tried {', '.join(str(path) for path in tried)})",
        f"builtin, the path of {kinds}, or hub:NAME" if is_source else f"the path of {kinds}",
        "correct the path; a relative one is tried beside the scenario file and in the working directory",
    )


def _hub_name(name: str, base_dir: Path | None) -> str:
    """A local folder beside the scenario or in the working directory if there is one, else the name itself."""
    if not name:
        raise FactsError("facts.source: `hub:` without a name", "hub:NAME", "name a dataset or a local folder")
    return next((str(path) for path in _candidates(name, base_dir) if is_folder(path)), name)


def _candidates(name: str, base_dir: Path | None) -> list[Path]:
    path = expanded(name)
    if path.is_absolute() or base_dir is None:
        return [path]
    return list(dict.fromkeys([base_dir / path, path]))
