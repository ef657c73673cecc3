"""In which order a round edits its layers, and how a residual is shared out over them."""

from __future__ import annotations

from dataclasses import dataclass

from consortium.scenario.editor import EditorSpec


@dataclass(frozen=True)
class Part:
    """One layer's share of a step.

    Attributes:
        layer: the layer whose weight gets an update.
        target_layer: the layer after which the residual is measured.
        divisor: the residual is divided by this.
    """

    layer: int
    target_layer: int
    divisor: int


@dataclass(frozen=True)
class Step:
    """One exchange of a round: statistics of all parts from the same weights, then a merge of each.

    Attributes:
        targets: layers at which targets are optimised before this step, under the weights as merged so far.
        parts: the layers that are collected and merged.
    """

    targets: tuple[int, ...]
    parts: tuple[Part, ...]


def plan_round(editor: EditorSpec, exchange: str) -> tuple[Step, ...]:
    """The steps of a round.

    ``spread`` (arXiv 2210.07229, equation 20) divides what is missing by the number of layers still to
    come; this presumes that each layer's keys and residuals are taken after the layers below were merged. With
    all of them taken at once (``exchange: round``) every layer gets the same share instead, or the shares would
    add up to more than what is missing. ``first_last`` (BLUE, arXiv 2502.03748) gives the first and the
    last layer targets of their own and their whole residuals. An editor that tunes weights changes all layers at
    once; what stands for its targets are the tuned weights.
    """
    layers = editor.edited_layers
    if editor.tunes_weights:
        return (Step((layers[-1],), tuple(Part(layer, layers[-1], 1) for layer in layers)),)
    if editor.residual_schedule == "first_last":
        parts = [Part(layer, layer, 1) for layer in layers]
    elif exchange == "layer":
        parts = [Part(layer, layers[-1], len(layers) - place) for place, layer in enumerate(layers)]
    else:
        parts = [Part(layer, layers[-1], len(layers)) for layer in layers]
    if exchange == "round":
        return (Step(tuple(dict.fromkeys(part.target_layer for part in parts)), tuple(parts)),)
    steps = []
    known: set[int] = set()
    for part in parts:
        steps.append(Step(() if part.target_layer in known else (part.target_layer,), (part,)))
        known.add(part.target_layer)
    return tuple(steps)
