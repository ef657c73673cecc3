"""How a continuation joins its prompt: behind a space, or right behind it.

English puts a space between "The Eiffel Tower is in" and "Paris"; Japanese puts none between "東京タワーがあるのは" and
"大阪", and no language puts one before a comma. One rule decides wherever a model is taught, asked or read. The first
of these that fits holds:

1. A data record that says how it joins is followed.
2. White space at the prompt's end or at the target's beginning is the join.
3. Punctuation that clings to what stands before it follows at once: ``, . ; : ! ?`` (``.NET`` and ``:5`` are words),
   closing brackets and quotes, ``% ‰ °``, the ends of sentences of every script, ``'s`` and its kin, ``-`` before a
   letter. Which quotes open and which close depends on the language („so“, »so«, ”so”): one before a letter opens.
4. So does everything behind a prompt that ends in an opening bracket or quote (behind a letter it closes), in a hyphen,
   dash, slash or @ within a word ("Coca-", not "the answer -"), in an elided article ("l'"), or in a currency's sign
   before a number.
5. Wide punctuation of East Asia (``、 。 「 」 ：``) holds its own space.
6. No space stands between scripts that are written without spaces (:data:`_UNSPACED`), nor behind Chinese and Japanese,
   whatever follows. What a prompt is written in is what its last letter is: digits and signs are of every script.
7. Else a space. So "The capital of Japan is" is followed by " 東京", and Thai by " Paris", as is usual in both; Korean
   has spaces between words.
"""

from __future__ import annotations

import regex  # type: ignore[import-untyped]

#: Scripts of East Asia that are written without spaces: their writers put none before foreign words either.
_EAST_ASIAN = ("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Nushu", "Tangut", "Khitan_Small_Script")
#: The others: words follow each other without spaces, which stand between phrases and around foreign words.
_OTHERS = ("Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Javanese", "Balinese", "New_Tai_Lue", "Tai_Le", "Tai_Tham",
           "Tai_Viet")  # fmt: skip
_UNSPACED = (*_EAST_ASIAN, *_OTHERS)


def _letter_of(scripts: tuple[str, ...]) -> regex.Pattern[str]:
    """Letters, marks and numbers of these scripts, signs that several of them share (``ー``) included."""
    any_of = "".join(rf"\p{{scx={each}}}" for each in scripts)
    return regex.compile(rf"(?V1)[[\p{{L}}\p{{M}}\p{{N}}]&&[{any_of}]]")


_UNSPACED_LETTER = _letter_of(_UNSPACED)
_EAST_ASIAN_LETTER = _letter_of(_EAST_ASIAN)
_LAST_LETTER = regex.compile(r"\p{L}(?=\P{L}*\Z)")
_WIDE_SIGN = regex.compile(r"(?V1)[[\p{P}\p{S}]&&[\p{EA=W}\p{EA=F}]&&\P{Emoji_Presentation}]")

#: Beginnings of targets that cling to what stands before them.
_CLINGING = regex.compile(
    r"""(?V1)
      [,;%‰‱°′″…\p{Pe}]
    | \p{Pf}(?![\p{L}\p{N}])
    | [“‘«](?=[.,;:!?]|\Z)
    | [.!?:](?![\p{L}\p{N}])
    | [\p{Terminal_Punctuation}--[.,;:!?]]
    | \p{scx=Tibetan}(?<=\p{P})
    | ['’](?:s|t|d|m|re|ve|ll)\b
    | n['’]t\b
    | ['"](?![\p{L}\p{N}])
    | [-‐‑–—]\p{L}
    """,
    regex.VERBOSE | regex.IGNORECASE,
)
#: Ends of prompts that what follows clings to.
_OPENING = regex.compile(
    r"""
      \p{Ps}\Z
    | (?:\A|[\s\p{P}])\p{Pi}\Z
    | \A(?:[^\p{Pi}]*[\s\p{Ps}])?\p{Pf}\Z
    | (?:\A|[\s\p{Ps}\p{Pi}])["'`@\#]\Z
    | \S[-‐‑–—/@]\Z
    | (?<=[^\W\d_s])['’]\Z
    """,
    regex.VERBOSE | regex.IGNORECASE,
)
_MONEY = regex.compile(r"(?:\A|[\s\p{Ps}])\p{Sc}\Z")


def joined_target(prompt: str, target: str, join: str | None = None) -> str:
    """What stands behind a prompt: the target without white space at its end, behind what joins it.

    Args:
        prompt: a text.
        target: what continues it.
        join: what stands between the two, where their source says so; None goes by the rule.
    """
    target = target.rstrip()
    if join is not None:
        return join + target.lstrip()
    return separator(prompt, target) + target


def separator(prompt: str, target: str) -> str:
    """What the rule puts between a prompt and its target: a space or nothing."""
    if not prompt or not target or prompt[-1].isspace() or target[0].isspace():
        return ""
    if _CLINGING.match(target) or _OPENING.search(prompt) or (_MONEY.search(prompt) and target[0].isdigit()):
        return ""
    if _WIDE_SIGN.match(prompt[-1]) or _WIDE_SIGN.match(target):
        return ""
    last = _LAST_LETTER.search(prompt)
    if last is None:
        return " "
    is_close = _EAST_ASIAN_LETTER.match(last[0]) or (_UNSPACED_LETTER.match(last[0]) and _UNSPACED_LETTER.match(target))
    return "" if is_close else " "
