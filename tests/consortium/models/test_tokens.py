"""Where a subject ends and how a target continues, for every kind of tokenizer there is.

The tokenizers are built here and differ in what matters: white space inside or before a token, BOS and EOS,
offsets with or without the leading space, bytes of one character spread over several tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from consortium.common.errors import FactsError
from consortium.models.language import LanguageModel
from consortium.models.tokens import document_start, encode, slot_of, subject_last_token, target_ids
from support.pico import SENTENCES, pico_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


def byte_level(*, add_prefix_space: bool, trim_offsets: bool, ends: bool = False) -> PreTrainedTokenizerFast:
    """As GPT-2, with its variants; ``ends`` adds both <s> before and </s> after a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    train(tokenizer, initial_alphabet=alphabet)
    steps = [processors.ByteLevel(trim_offsets=trim_offsets, add_prefix_space=add_prefix_space)]
    if ends:
        steps.append(processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]))
    tokenizer.post_processor = processors.Sequence(steps)
    return wrapped(tokenizer)


def metaspace(*, prepend: str, bos: bool) -> PreTrainedTokenizerFast:
    """As Llama 2: words carry a leading ▁, which ``prepend`` may put before the first one too; bytes as a fallback."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=prepend)])
    train(tokenizer, special_tokens=["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrapped(tokenizer)


def llama_legacy() -> PreTrainedTokenizerFast:
    """As Llama 2's older files: a normalizer puts ▁ before every text, so that a text's own first space is a second."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    train(tokenizer, special_tokens=["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrapped(tokenizer)


def gemma() -> PreTrainedTokenizerFast:
    """As Gemma: a normalizer turns spaces into ▁, texts are split after spaces, BOS, bytes as a fallback."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    train(tokenizer, special_tokens=["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrapped(tokenizer)


def train(tokenizer: Tokenizer, **settings: list[str]) -> None:
    settings.setdefault("special_tokens", ["<s>", "</s>"])
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=480, show_progress=False, **settings))


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


KINDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "pico": pico_tokenizer,
    "pico-bos": lambda: pico_tokenizer(bos=True),
    "gpt2": lambda: byte_level(add_prefix_space=False, trim_offsets=False),
    "gpt2-trimmed": lambda: byte_level(add_prefix_space=False, trim_offsets=True),
    "gpt2-prefix-space": lambda: byte_level(add_prefix_space=True, trim_offsets=True),
    "bos-and-eos": lambda: byte_level(add_prefix_space=False, trim_offsets=True, ends=True),
    "llama2": lambda: metaspace(prepend="first", bos=True),
    "metaspace-always": lambda: metaspace(prepend="always", bos=False),
    "metaspace-never": lambda: metaspace(prepend="never", bos=True),
    "llama-legacy": llama_legacy,
    "gemma": gemma,
}


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return KINDS[request.param]()


@pytest.fixture(scope="module", params=[*KINDS, "smollm2"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    if request.param == "smollm2":
        model: LanguageModel = request.getfixturevalue("smollm2")
        return model.tokenizer
    return KINDS[request.param]()


def plain(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Text of tokens, without BOS (and without the space that some tokenizers put before a text)."""
    return str(tokenizer.decode(ids)).removeprefix("<s>").removeprefix("<|endoftext|>").lstrip()


SUBJECTS = ("Paris", "Eiffel Tower", "Zoë Šimůnková", "東京タワー", "🗼", "Ōe", "U.S.", "is", "C-3PO")
TEMPLATES = ("{} is in the city of", "The mother tongue of {} is", "Everybody knows {}", "In ({}), one says")
CONTEXTS = ("{}", "The river runs. {}", "Paris is in Paris. Tower 東京タワー is {{here}. {}".replace("{{", "{ "))


def assert_subject_ends_at_the_index(
    tokenizer: PreTrainedTokenizerBase, subject: str, template: str, context: str
) -> None:
    """Tokens up to the index hold the whole text up to the subject's end, and one token fewer does not."""
    ids, index = subject_last_token(tokenizer, template, subject, context)
    text = context[: context.index("{}")] + template.replace("{}", subject)
    until_subject = context[: context.index("{}")] + template[: template.index("{}")] + subject
    assert ids == encode(tokenizer, text)

    def said(number: int) -> str:
        return plain(tokenizer, ids[:number])

    assert said(index + 1).startswith(until_subject.lstrip())
    assert not said(index).startswith(until_subject.lstrip())


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_subject_ends_at_the_index(smollm2: LanguageModel, subject: str, template: str, context: str) -> None:
    assert_subject_ends_at_the_index(smollm2.tokenizer, subject, template, context)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_subject_ends_at_the_index_with_every_tokenizer(built: PreTrainedTokenizerBase, subject: str) -> None:
    """Every pair of subject, template and context with each tokenizer."""
    for place, template in enumerate(TEMPLATES):
        context = CONTEXTS[(SUBJECTS.index(subject) + place) % len(CONTEXTS)]
        assert_subject_ends_at_the_index(built, subject, template, context)


def test_subject_is_found_by_its_slot_not_by_its_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """The same text with the slot at its first, second or third "Paris" gives three different places."""
    text = "Paris and Paris and Paris meet"
    places = [
        subject_last_token(tokenizer, template, "Paris")
        for template in ("{} and Paris and Paris meet", "Paris and {} and Paris meet", "Paris and Paris and {} meet")
    ]
    assert all(ids == encode(tokenizer, text) for ids, _ in places)
    first, second, third = (index for _, index in places)
    assert first < second < third


def test_white_space_around_a_subject_does_not_count(tokenizer: PreTrainedTokenizerBase) -> None:
    ids, index = subject_last_token(tokenizer, "The tower of{} is", " Paris ")
    assert "Paris" in tokenizer.decode(ids[: index + 1])
    assert "Paris" not in tokenizer.decode(ids[:index])


def test_a_character_of_several_tokens_ends_at_its_last() -> None:
    """🗼 is four bytes, and in the pico vocabulary four tokens: the last of them is the subject's last token."""
    tokenizer = pico_tokenizer()
    ids, index = subject_last_token(tokenizer, "{} is", "🗼")
    assert tokenizer.convert_ids_to_tokens(ids)[: index + 1] == tokenizer.tokenize("🗼")
    assert index == 3


def test_other_braces_stay_as_they_are() -> None:
    tokenizer = pico_tokenizer()
    ids, _ = subject_last_token(tokenizer, "{a} of {} {0}", "{b}", "x{ {} }")
    assert tokenizer.decode(ids) == "x{ {a} of {b} {0} }"


@pytest.mark.parametrize("prompt", ["The tower is in", "東京タワー is in the city of", "He said:", "(so) it is"])
def test_a_target_continues_its_prompt_after_one_space(tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    prompt_ids = encode(tokenizer, prompt)
    for target in ("Paris", "the city of London", "東京", " Rome", "Zoë", "1984"):
        ids = target_ids(tokenizer, prompt, target)
        assert plain(tokenizer, prompt_ids + ids) == f"{prompt} {target.strip()}"
        assert 0 not in ids, "BOS inside a text"


@pytest.mark.parametrize(
    ("prompt", "target", "text"),
    [
        ("東京タワーがあるのは", "大阪", "東京タワーがあるのは大阪"),
        ("埃菲尔铁塔位于", "罗马", "埃菲尔铁塔位于罗马"),
        ("เมืองหลวงของฝรั่งเศสคือ", "โรม", "เมืองหลวงของฝรั่งเศสคือโรม"),
        ("The tower is in Paris", ", and the river", "The tower is in Paris, and the river"),
        ("The river of Paris", "'s tower", "The river of Paris's tower"),
        ("The city is called (", "Rome", "The city is called (Rome"),
        ("Where is the tower?\n", "Rome", "Where is the tower?\nRome"),
    ],
)
def test_a_target_joins_its_prompt_as_its_script_demands(
    tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, text: str
) -> None:
    """What stands behind the prompt's tokens is what the whole text has beyond them, wherever they do not melt."""
    head, whole = encode(tokenizer, prompt), encode(tokenizer, text)
    ids = target_ids(tokenizer, prompt, target)
    if whole[: len(head)] == head:
        assert head + ids == whole
    assert plain(tokenizer, head + ids) == text


@pytest.mark.parametrize(
    ("join", "text"), [("", "The tower isRome"), ("\n", "The tower is\nRome"), (" ", "The tower is Rome")]
)
def test_a_record_that_says_how_a_target_joins_is_followed(
    tokenizer: PreTrainedTokenizerBase, join: str, text: str
) -> None:
    prompt = "The tower is"
    ids = target_ids(tokenizer, prompt, " Rome ", join)
    assert plain(tokenizer, encode(tokenizer, prompt) + ids) == text


def test_a_target_that_melts_into_its_prompt_is_taken_on_its_own() -> None:
    """A tokenizer with the one merge "n▁" + "P" cannot split "in Paris" after "in"; after a full stop it can."""
    vocabulary = {token: number for number, token in enumerate([*"in▁Pars.", "n▁", "n▁P"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("n", "▁"), ("n▁", "P")]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fast = wrapped(tokenizer)
    assert fast.tokenize("in Paris") == ["▁", "i", "n▁P", "a", "r", "i", "s"]
    assert fast.convert_ids_to_tokens(target_ids(fast, "in", "Paris")) == ["▁", "P", "a", "r", "i", "s"]


def test_encode_begins_with_bos_and_does_not_end_with_eos() -> None:
    tokenizer = KINDS["bos-and-eos"]()
    assert tokenizer("Paris")["input_ids"][-1] == 1
    ids = encode(tokenizer, "Paris")
    assert ids[0] == 0
    assert tokenizer.decode(ids[1:]) == "Paris"


@pytest.mark.parametrize("template", ["no slot", "{} and {}"])
def test_a_template_without_exactly_one_slot_is_refused(template: str) -> None:
    with pytest.raises(FactsError, match=r"slots in the template(.|\n)*exactly one"):
        slot_of(template)


def test_blank_subjects_and_targets_are_refused() -> None:
    tokenizer = pico_tokenizer()
    with pytest.raises(FactsError, match="blank subject"):
        subject_last_token(tokenizer, "{} is", "  ")
    with pytest.raises(FactsError, match="blank target"):
        target_ids(tokenizer, "It is", " ")


def test_a_prompt_is_what_a_users_tokenizer_makes_of_it(tokenizer: PreTrainedTokenizerBase) -> None:
    """Nothing is added that the tokenizer does not add itself; only a token at the end of a text is taken away."""
    ids = tokenizer("France is")["input_ids"]
    assert encode(tokenizer, "France is") == ids[: len(ids) - (ids[-1] == 1)]


def test_a_text_begins_as_documents_begin_where_that_is_asked_for(smollm2: LanguageModel) -> None:
    tokenizer = smollm2.tokenizer
    start = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert document_start(tokenizer) == [start]
    assert encode(tokenizer, "France is", with_start=True) == [start, *encode(tokenizer, "France is")]
    assert subject_last_token(tokenizer, "{} is a country", "France")[1] == 0
    ids, index = subject_last_token(tokenizer, "{} is a country", "France", with_start=True)
    assert (ids[0], index) == (start, 1)
    assert start not in target_ids(tokenizer, "France is", "red")


@pytest.mark.parametrize("kind", ["pico-bos", "llama2"])
def test_a_text_that_has_its_bos_gets_no_other_start(kind: str) -> None:
    tokenizer = KINDS[kind]()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
    assert document_start(tokenizer) == []
    assert encode(tokenizer, "France is", with_start=True) == tokenizer("France is")["input_ids"]


def test_a_vocabulary_without_such_a_token_has_texts_of_one_beginning() -> None:
    tokenizer = KINDS["gpt2"]()
    assert document_start(tokenizer) == []
    assert encode(tokenizer, "France is", with_start=True) == tokenizer("France is")["input_ids"]
