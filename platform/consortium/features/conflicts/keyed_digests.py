"""Keyed digests: what a party announces of its edits before a round, as digests that only holders of a key can guess
at.

For each request a party sends two keyed digests (HMAC-SHA256, RFC 2104, cut to 16 bytes) of what it asks::

    slot = HMAC(key, round, subject, prompt)        answer = HMAC(key, round, subject, prompt, target)

Equal slots ask about the same, equal answers ask for the same. The parties share the key and the coordinator does not
have it, so it sees who coincides and never in what; the round is in the digest, so keyed digests of two rounds have
nothing in common. Where policies reach over rounds (``conflicts.scope: run``) no round is in it. In the simulation the
key follows from the seed; real parties would agree on one among themselves.

``docs/conflicts.md`` says what this hides and what not.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from consortium.data.edit import Edit

#: Length of a digest: of a billion edits, two differing ones share a digest with a chance of 1e-21.
DIGEST_BYTES = 16


@dataclass(frozen=True)
class KeyedDigests:
    """What some parties announce, party after party, in the order of their requests.

    Attributes:
        parties: number of the party that sent each keyed digest.
        slots: digests of what is asked about.
        answers: digests of what is asked about and the answer that is wanted.
    """

    parties: tuple[int, ...]
    slots: tuple[bytes, ...]
    answers: tuple[bytes, ...]

    def __post_init__(self) -> None:
        assert len(self.parties) == len(self.slots) == len(self.answers), (
            "one party, slot and answer for each keyed digest"
        )


def shared_key(seed: int) -> bytes:
    """The key that the parties of a run share."""
    return hashlib.sha256(f"consortium/slips/{seed}".encode()).digest()


def keyed_digests_of(key: bytes, round_number: int | None, edits: Sequence[tuple[int, Edit]]) -> KeyedDigests:
    """The keyed digests of (party, edit) pairs; a round of None makes keyed digests that can be compared with those of
    any round."""
    return KeyedDigests(
        parties=tuple(party for party, _ in edits),
        slots=tuple(_digest(key, round_number, edit.subject, edit.prompt) for _, edit in edits),
        answers=tuple(_digest(key, round_number, edit.subject, edit.prompt, edit.target_new) for _, edit in edits),
    )


def _digest(key: bytes, round_number: int | None, *texts: str) -> bytes:
    parts = ["" if round_number is None else str(round_number), *map(_plain, texts)]
    # Each part with its length before it, so that no two lists of parts make the same message.
    message = b"".join(len(part).to_bytes(4, "big") + part for part in (each.encode() for each in parts))
    return hmac.digest(key, message, "sha256")[:DIGEST_BYTES]


def _plain(text: str) -> str:
    """One spelling for texts that differ in white space or in how accents are encoded."""
    return " ".join(unicodedata.normalize("NFC", text).split())
