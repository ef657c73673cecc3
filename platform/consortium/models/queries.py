"""What a model is asked, and what it answers: probes and scores, forced answers, texts to be written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import, and many ask who never draw
    import torch


@dataclass(frozen=True)
class Probe:
    """A question to the model: is ``target`` likelier than ``rival`` after ``prompt``?

    Attributes:
        prompt: the prompt, asked as the model's own tokenizer makes it.
        target: an answer.
        rival: another one; None for none.
        join: what stands between the prompt and either of them; None goes by :mod:`consortium.models.joining`.
        with_start: the token that begins documents is put before the prompt, where the tokenizer puts nothing there.
    """

    prompt: str
    target: str
    rival: str | None = None
    join: str | None = None
    with_start: bool = False


@dataclass(frozen=True)
class Score:
    """Answer to a probe.

    Attributes:
        nll_target: mean negative log likelihood per token of the probe's target, in nats.
        nll_rival: the same of the rival; None when the probe has none.
        strict: True when every token of the target is the arg-max.
    """

    nll_target: float
    nll_rival: float | None
    strict: bool

    @property
    def is_finite(self) -> bool:
        """Whether it is an answer: a likelihood that is not finite says neither yes nor no."""
        return math.isfinite(self.nll_target) and (self.nll_rival is None or math.isfinite(self.nll_rival))

    @property
    def success(self) -> bool:
        """The target is likelier than the rival; without a rival, the target is the arg-max."""
        if not self.is_finite:
            return False
        return self.strict if self.nll_rival is None else self.nll_target < self.nll_rival


@dataclass(frozen=True)
class Answer:
    """What the model says where a probe's target should stand, in as many tokens.

    Attributes:
        said: the model's tokens.
        wanted: the target's tokens.
        is_target: the two are the same, as tokens or, where the model wrote by itself, as text.
        chances: probability of each of the model's tokens in its place, by teacher forcing; else empty.
        is_finite: False where a token was read from numbers that are not finite; the rest then says nothing.
        text: the model's tokens as text.
    """

    said: tuple[int, ...]
    wanted: tuple[int, ...]
    is_target: bool
    chances: tuple[float, ...] = field(default=(), compare=False)
    is_finite: bool = True
    text: str = field(default="", compare=False)


@dataclass(frozen=True)
class Generation:
    """How texts are to be written.

    Attributes:
        num_tokens: tokens to write after each prompt.
        top_k: each token is drawn from so many of the likeliest; 1 takes the likeliest.
        generator: of the draws; not used with a ``top_k`` of 1.
    """

    num_tokens: int
    top_k: int = 1
    generator: torch.Generator | None = None
