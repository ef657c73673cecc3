"""Evaluation items: what a metric asks a model, and the ways in which a model can be asked.

Items that are asked in equal ways are put to the model in one call (:mod:`consortium.evaluation.asking`): scores of all
metrics are read from one prefix tree. A way's ``apart`` keeps items out of the others' call, where an answer depends on
what stands beside it, as drawn texts do.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from consortium.data.edit import Edit
from consortium.data.request import Request
from consortium.models.queries import Generation
from consortium.scenario.schema import Decoding

if TYPE_CHECKING:
    from consortium.editing.backend import Backend


@dataclass(frozen=True)
class AskedEdit:
    """An edit that is asked about.

    Attributes:
        edit: the edit.
        of_round: round under which its answers are counted: mostly that of the request.
        request: the request for it; None if nobody asks whose it is.
        is_rejected: its party left it out of the merge, since another answer was chosen.
    """

    edit: Edit
    of_round: int
    request: Request | None = field(default=None, compare=False)
    is_rejected: bool = False


class Way(Protocol):
    """A way to ask; equal ones are asked together."""

    def put(self, backend: Backend, texts: Sequence[Any]) -> Sequence[Any]:
        """Put questions of this kind to the model: one answer for each; the model is not changed."""
        ...


@dataclass(frozen=True)
class Scored:
    """Probes: how likely target and rival are (:class:`consortium.models.queries.Score`)."""

    apart: Hashable = None

    def put(self, backend: Backend, texts: Sequence[Any]) -> Sequence[Any]:
        """A score for each probe."""
        return backend.score(texts)


@dataclass(frozen=True)
class Answered:
    """Probes: what the model says in as many tokens (:class:`consortium.models.queries.Answer`)."""

    decoding: Decoding
    apart: Hashable = None

    def put(self, backend: Backend, texts: Sequence[Any]) -> Sequence[Any]:
        """An answer to each probe."""
        return backend.answer(texts, self.decoding)


@dataclass(frozen=True)
class Written:
    """Prompts: the text that the model writes after each; None where its numbers are not finite.

    Attributes:
        num_tokens: length of a text.
        top_k: each token is drawn from this many of the likeliest.
        draws: what the generator of the draws is derived from: the run's seed, the purpose, and its parts.
    """

    num_tokens: int
    top_k: int
    draws: tuple[Any, ...]

    def put(self, backend: Backend, texts: Sequence[Any]) -> Sequence[Any]:
        """A text for each prompt."""
        # Slow to import, and what is known of metrics is wanted where no model is.
        from consortium.common.seeds import torch_generator

        return backend.write(texts, Generation(self.num_tokens, self.top_k, torch_generator(*self.draws)))


@dataclass(frozen=True)
class Continued:
    """Pairs of prompt and continuation: Σ of the continuation's negative log likelihoods, in nats."""

    def put(self, backend: Backend, texts: Sequence[Any]) -> Sequence[Any]:
        """A sum for each pair."""
        return backend.continuation_nll(texts)


@dataclass(frozen=True)
class ReadInParts:
    """Whole texts, of which a party batch reads its part: (Σ nll in nats, tokens, tokens that are not finite)."""

    num_tokens: int | None
    part: int
    num_parts: int

    def put(self, backend: Backend, texts: Sequence[Any]) -> Sequence[Any]:
        """Three numbers for each text."""
        return [backend.text_nll(text, self.num_tokens, self.part, self.num_parts) for text in texts]


@dataclass(frozen=True)
class Item:
    """What is asked for one column of the results about one edit, or about the model by itself.

    Attributes:
        column: name of the column.
        of_round: round of the edits under which the answer is counted; 0 for none.
        texts: the questions: probes, prompts, … as ``way`` takes them.
        way: how they are asked.
        about: what they are about: an edit, a question, or nothing but the model.
    """

    column: str
    of_round: int
    texts: tuple[Any, ...]
    way: Way
    about: object = None

    @property
    def asked(self) -> AskedEdit:
        """The edit that it is about."""
        assert isinstance(self.about, AskedEdit), f"{self.column} is about no edit"
        return self.about
