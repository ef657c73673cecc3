"""How targets join their prompts, language by language and sign by sign."""

from __future__ import annotations

import pytest
from consortium.data.builtin import builtin_edits
from consortium.models.joining import joined_target

SPACE = {
    ("The tower is in", "Paris"): "words of a language with spaces",
    ("Башня находится в городе", "Париж"): "Cyrillic",
    ("대한민국의 수도는", "서울"): "Korean has spaces between words",
    ("राजधानी है", "दिल्ली"): "so has Hindi",
    ("The capital of Japan is", "東京"): "an English sentence, whatever its object",
    ("Where is it?\nA:", "大阪"): "the last letter is Latin",
    ("เมืองหลวงของฝรั่งเศสคือ", "Paris"): "Thai puts spaces around foreign words",
    ("ราคาคือ", "500"): "and around numbers",
    ("The answer:", "Paris"): "behind a colon",
    ("The answer -", "Paris"): "a dash between words",
    ("It is (so)", "and"): "behind what was closed",
    ("He said “no”", "again"): "behind a closing quote",
    ("He said", "“no”"): "before an opening quote",
    ("He said", "'no'"): "before an opening apostrophe",
    ('He said "no"', "again"): "behind a straight closing quote",
    ("the dogs'", "bones"): "a plural's apostrophe",
    ("It runs on", ".NET"): "a word that begins with a full stop",
    ("They are called", "!Kung"): "a word that begins with a click",
    ("It is", "-5"): "a negative number",
    ("It is", "(old)"): "before an opening bracket",
    ("He paid 5 $", "again"): "a currency behind its number",
    ("He was born in the", "’90s"): "an apostrophe that begins a word",
    ("Er sagte", "»nein«"): "before an opening quote of German books",
    ("Hon sade", "”nej”"): "before an opening quote of Swedish",
    ("Er sagte „nein“", "und ging"): "behind a closing quote of German",
    ("Er sagte »nein«", "und ging"): "behind a closing quote of German books",
    ("Il dit « non »", "encore"): "behind a closing quote of French",
}
NO_SPACE = {
    ("東京タワーがあるのは", "大阪"): "Japanese",
    ("コーヒー", "を飲む"): "behind a prolonged vowel",
    ("埃菲尔铁塔位于", "巴黎"): "Chinese",
    ("高さは", "333メートル"): "a number in Japanese",
    ("東京タワーは1958", "年"): "behind a number in Japanese",
    ("英語では", "Tokyo Tower"): "a foreign word in Japanese",
    ("答え:", "大阪"): "the last letter is Japanese",
    ("答えは：", "Paris"): "a wide colon holds its own space",
    ("彼は「", "はい"): "behind a wide quote",
    ("これは赤い", "。"): "a wide full stop",
    ("ปารีสเป็นเมืองหลวงของ", "ฝรั่งเศส"): "Thai",
    ("ເມືອງຫຼວງແມ່ນ", "ວຽງຈັນ"): "Lao",
    ("រាជធានីគឺ", "ភ្នំពេញ"): "Khmer",
    ("မြို့တော်မှာ", "ရန်ကုန်"): "Burmese",
    ("རྒྱལ་ས་ནི་", "ལྷ་ས"): "Tibetan",
    ("The tower", ", in Paris"): "a comma",
    ("The tower", "."): "a full stop",
    ("दिल्ली", "।"): "a full stop of Hindi",
    ("The tower", "; so"): "a semicolon",
    ("So", "!"): "an exclamation mark",
    ("So", "…"): "dots",
    ("It is (so", ")"): "a closing bracket",
    ("He said “no", "”"): "a closing quote",
    ("It rose by 5", "%"): "a per cent sign",
    ("Paris", "'s tower"): "a genitive",
    ("Paris", "’s tower"): "a genitive with a curly apostrophe",
    ("it does", "n't"): "a negation",
    ("well", "-known"): "the second half of a word",
    ("Coca-", "Cola"): "behind a hyphen within a word",
    ("and/", "or"): "behind a slash",
    ("2004–", "2008"): "behind a dash of years",
    ("the so-called (", "king"): "behind an opening bracket",
    ("the so-called “", "king"): "behind an opening quote",
    ('the so-called "', "king"): "behind a straight opening quote",
    ("l'", "Italia"): "behind an elided article",
    ("l’", "Italie"): "the same with a curly apostrophe",
    ("It costs $", "5"): "a number behind its currency",
    ("Er sagte „", "nein"): "behind an opening quote of German",
    ("Er sagte „nein", "“"): "before a closing quote of German",
    ("Er sagte »", "nein"): "behind an opening quote of German books",
    ("Hon sade ”", "nej"): "behind an opening quote of Swedish",
    ("Il dit «", "non"): "behind an opening quote of French",
    ("她说“", "Paris"): "behind an opening quote of Chinese",
    ("write to info@", "example.org"): "the second half of an address",
    ("Question?\n", "Paris"): "behind a line break",
    ("It is ", "Paris"): "a prompt that brings its space",
    ("It is", " Paris"): "a target that brings its space",
    ("東京タワーがあるのは", " 大阪"): "the same where the script has none",
}


@pytest.mark.parametrize(("prompt", "target"), SPACE, ids=SPACE.values())
def test_a_space_stands_between(prompt: str, target: str) -> None:
    assert joined_target(prompt, target) == f" {target}"


@pytest.mark.parametrize(("prompt", "target"), NO_SPACE, ids=NO_SPACE.values())
def test_nothing_is_put_between(prompt: str, target: str) -> None:
    assert joined_target(prompt, target) == target


@pytest.mark.parametrize("join", ["", " ", "\n", "\u3000"])
def test_a_source_that_says_how_is_followed(join: str) -> None:
    assert joined_target("東京タワーがあるのは", " 大阪 ", join) == f"{join}大阪"
    assert joined_target("The tower is in", "Paris", join) == f"{join}Paris"


def test_every_built_in_fact_follows_after_a_space() -> None:
    for edit in builtin_edits():
        for prompt in (edit.text, *edit.paraphrases):
            assert joined_target(prompt, edit.target_new) == f" {edit.target_new}"
            assert joined_target(prompt, edit.target_old or "x") == f" {edit.target_old}"
        assert all(joined_target(each.prompt, each.target) == f" {each.target}" for each in edit.neighbors)
