"""Writing: the model continues prompts, each by its own number of tokens.

Prompts of about one length run together. A batch's common length runs at once, then column after column: where a
prompt goes on its own token is taken, where it has ended the model's. So no row is padded on the left, and positions
are those of each text by itself. The model writes past an end-of-text token, as in the code of ROME
(arXiv 2202.05262), whose fluency is measured on such texts.

Shapes: B texts, T tokens, N vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from consortium.models.language import LanguageModel
from consortium.models.prefix_tree import Tokens
from consortium.models.queries import Generation
from consortium.models.sampling import draw, fill_in
from consortium.models.tokens import decode, encode

#: Tokens of texts that are written together, padding included (unless one text is longer); bounds the keys and values
#: that are kept. A step costs a CPU about the same for few rows and for many.
KEPT_TOKENS = 4096

#: The next token of each row [B], on the CPU, from logits [B, N].
Choose = Callable[[torch.Tensor], torch.Tensor]


def write_texts(model: LanguageModel, prompts: Sequence[str], generation: Generation) -> list[str | None]:
    """What the model writes after each prompt, in their order; a prompt that is asked twice is continued once.

    None where some token was read from logits that are not finite.

    Batches depend on the prompts alone, so equal calls with equal generators give equal texts.
    """
    starts = {prompt: tuple(encode(model.tokenizer, prompt)) for prompt in dict.fromkeys(prompts)}
    written = write_tokens(model, list(starts.values()), [generation.num_tokens] * len(starts), _chooser(generation))
    texts = {
        prompt: None if tokens is None else decode(model.tokenizer, tokens)
        for prompt, tokens in zip(starts, written, strict=True)
    }
    return [texts[prompt] for prompt in prompts]


def write_tokens(
    model: LanguageModel, starts: Sequence[Tokens], num_new: Sequence[int], choose: Choose | None = None
) -> list[Tokens | None]:
    """The ``num_new`` tokens that follow each start; the likeliest ones unless ``choose`` says otherwise.

    None where logits were not finite: of such, the likeliest token is token 0, which is no answer.
    """
    written: dict[int, Tokens | None] = {}
    for batch in _batches(starts, num_new):
        rows = _write_rows(model, [starts[each] for each in batch], [num_new[each] for each in batch], choose or _best)
        written.update(zip(batch, rows, strict=True))
    return [written[number] for number in range(len(starts))]


def _batches(starts: Sequence[Tokens], num_new: Sequence[int]) -> list[list[int]]:
    """Numbers of the texts in each batch, by the texts alone; starts of one length side by side."""
    batches: list[list[int]] = []
    width = 0
    for number in sorted(range(len(starts)), key=lambda each: (len(starts[each]), num_new[each], starts[each])):
        longer = max(width, len(starts[number]) + num_new[number])
        if not batches or longer * (len(batches[-1]) + 1) > KEPT_TOKENS:
            batches.append([])
            longer = len(starts[number]) + num_new[number]
        batches[-1].append(number)
        width = longer
    return batches


def _write_rows(model: LanguageModel, starts: list[Tokens], num_new: list[int], choose: Choose) -> list[Tokens | None]:
    lengths = [len(start) + new for start, new in zip(starts, num_new, strict=True)]
    ids_BT = torch.zeros(len(starts), max(lengths), dtype=torch.long)
    known_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, start in enumerate(starts):
        ids_BT[row, : len(start)] = torch.tensor(start)
        known_BT[row, : len(start)] = True
    until = torch.tensor(lengths)
    sound_B = fill_in(model, ids_BT, known_BT, min(map(len, starts)), choose, until).tolist()
    ends = zip(starts, lengths, sound_B, strict=True)
    return [
        tuple(ids_BT[row, len(start) : length].tolist()) if is_sound else None
        for row, (start, length, is_sound) in enumerate(ends)
    ]


def _best(logits_BN: torch.Tensor) -> torch.Tensor:
    return logits_BN.argmax(-1).cpu()


def _chooser(generation: Generation) -> Choose:
    top_k, generator = generation.top_k, generation.generator
    if top_k == 1:
        return _best
    assert generator is not None, "a draw needs a generator"
    return lambda logits_BN: draw(logits_BN, min(top_k, logits_BN.shape[-1]), generator)
