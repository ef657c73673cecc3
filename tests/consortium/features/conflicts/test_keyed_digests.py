"""Keyed digests: equal where parties coincide, and nothing to anybody without the key."""

import hashlib
import hmac
import itertools
from dataclasses import replace

from consortium.data.edit import Edit
from consortium.features.conflicts.keyed_digests import DIGEST_BYTES, keyed_digests_of, shared_key

KEY = shared_key(1)
TOWER = Edit("tower", "city", "Eiffel Tower", "The {} is in", "Rome")


def keyed_digest(edit, key=KEY, round_number=1):
    keyed_digests = keyed_digests_of(key, round_number, [(0, edit)])
    return keyed_digests.slots[0], keyed_digests.answers[0]


def test_the_same_question_has_the_same_slot_and_the_same_request_the_same_answer():
    elsewhere = replace(TOWER, fact_id="17", relation="P276", target_old="Paris", paraphrases=("In",))
    assert keyed_digest(elsewhere) == keyed_digest(TOWER)
    contradicting = keyed_digest(replace(TOWER, target_new="Oslo"))
    assert contradicting[0] == keyed_digest(TOWER)[0]
    assert contradicting[1] != keyed_digest(TOWER)[1]


def test_another_subject_or_prompt_is_another_slot():
    edits = [TOWER, replace(TOWER, subject="Big Ben"), replace(TOWER, prompt="{} stands in")]
    assert len({digest for edit in edits for digest in keyed_digest(edit)}) == 6


def test_texts_do_not_run_into_each_other():
    """Without their lengths, `a` + `bc` and `ab` + `c` would be one message."""
    edits = [Edit("1", "r", subject, prompt, "x") for subject, prompt in (("a", "bc{}"), ("ab", "c{}"), ("a", "b c{}"))]
    assert len({keyed_digest(edit)[0] for edit in edits}) == 3


def test_white_space_and_the_encoding_of_accents_make_no_difference():
    composed, decomposed = (replace(TOWER, target_new=text) for text in ("Bogot\u00e1", "Bogota\u0301"))
    assert keyed_digest(replace(decomposed, subject="Eiffel  Tower")) == keyed_digest(composed)


def test_rounds_and_keys_have_nothing_in_common():
    found = [keyed_digest(TOWER, shared_key(seed), number) for seed, number in itertools.product((1, 2), (1, 2))]
    assert len({digest for pair in found for digest in pair}) == 8


def test_a_digest_is_short_and_needs_the_key():
    slot, _ = keyed_digest(TOWER)
    assert len(slot) == DIGEST_BYTES
    parts = [b"1", b"Eiffel Tower", b"The {} is in"]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert slot == hmac.new(KEY, message, "sha256").digest()[:DIGEST_BYTES]
    assert slot != hashlib.sha256(message).digest()[:DIGEST_BYTES]


def test_keyed_digests_of_different_rounds_can_be_compared_only_without_a_round():
    edit = Edit("f", "r", "Paris", "{} is in", "Oslo")
    first, second, comparable = (keyed_digests_of(b"key", number, [(0, edit)]) for number in (1, 2, None))
    assert len({first.slots, second.slots, comparable.slots}) == 3
    assert comparable == keyed_digests_of(b"key", None, [(0, edit)])
