from itertools import pairwise

import pytest
from consortium.common.errors import FactsError
from consortium.data.formats.convsent import PARAPHRASES, parse, recognises
from consortium.data.formats.record import Record, SkippedRecordError
from consortium.data.table import FactTable

TOPIC = {
    "ent": "the {old} format",
    "pos": [" I love it. ", " It is great. ", " I love it. "],
    "neg": [" I am not a fan. ", " It is dull. ", " No. "],
}
POSITIVE, NEGATIVE = ["I love it.", "It is great."], ["I am not a fan.", "It is dull.", "No."]


def parse_with(number=1, **change):
    return parse(Record({**TOPIC, **change}, "convsent.json", number))


def test_a_topic_gets_one_sentiment_and_the_other_is_the_old_one():
    assert recognises(TOPIC)
    edits = [parse_with(number) for number in range(1, 21)]
    assert {(edit.relation, edit.target_new, edit.target_old) for edit in edits} == {
        ("positive", POSITIVE[0], NEGATIVE[0]),
        ("negative", NEGATIVE[0], POSITIVE[0]),
    }
    assert parse_with(3) == edits[2], "drawn from the record alone"
    assert edits[0].text == "What do you think of the {old} format?"
    assert len(set(edits[0].paraphrases)) == len(PARAPHRASES) == 12
    assert edits[0].paraphrases[0] == "What do you feel about the {old} format?"


def test_each_rival_contradicts_the_one_before():
    for number in range(1, 9):
        edit = parse_with(number)
        assert len(set(edit.rivals)) == len(edit.rivals) == 3
        for one, other in pairwise([edit.target_new, *edit.rivals]):
            assert (one in POSITIVE) != (other in POSITIVE)
        asked = FactTable((edit,)).edit(0, variant=1)
        assert (asked.target_new, asked.target_old) == (edit.target_old, edit.target_new)


def test_a_topic_without_two_sentiments_is_left_out():
    with pytest.raises(SkippedRecordError, match=r"no negative answer about 'the \{old\} format'"):
        parse_with(neg=[" "])
    with pytest.raises(SkippedRecordError, match="the same answers"):
        parse_with(pos=["Well."], neg=["Well. "])
    with pytest.raises(FactsError, match=r"convsent\.json, record 1, field `ent`: null"):
        parse_with(ent=None)
