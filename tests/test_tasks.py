"""Sampled tasks: what they hold, that a seed fixes them, and what is refused, by tokenizer."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from helpers.tasks import capitals, docstrings, greater_than
from helpers.tasks.capitals import sample_capitals
from helpers.tasks.docstrings import ARGUMENTS, sample_docstrings
from helpers.tasks.greater_than import sample_greater_than
from tests.tiny_models import tiny_gpt2

pytestmark = pytest.mark.usefixtures("one_thread")

# One token for the year, as GPT-2 has for some that are written often.
WHOLE_YEARS = ("1700", "1750")
# How a tokenizer parts " 1743": as " "|1|7|4|3, " 17"|43 or " 174"|3.
NUMBERS = {
    "digits": r"\d",
    "pairs": rf" ?(?:{'|'.join(WHOLE_YEARS)}|\d{{1,2}})",
    "triples": r" ?\d{1,3}",
}


def written(text: str) -> str:
    """As byte-level vocabularies spell it."""
    return text.replace(" ", "Ġ").replace("\n", "Ċ")


def english_text() -> str:
    """Everything that the samplers write, but for numbers."""
    texts = [*greater_than.ENGLISH.frames, *docstrings.ENGLISH.frames, *capitals.ENGLISH.frames]
    text = re.sub(r"{\w+}", "x", " ".join(texts))
    lists = [
        greater_than.ENGLISH.nouns,
        *(getattr(docstrings.ENGLISH, name) for name in ("names", "arguments", "things")),
        *(docstrings.ENGLISH.adjectives, docstrings.ENGLISH.nouns),
        *capitals.ENGLISH.capitals.items(),
    ]
    return " ".join([text, *(word for words in lists for word in words)])


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Words and numbers as single tokens, with the space in front, and numbers in parts of a kind."""
    words = re.findall("[A-Za-z]+", english_text())
    numbers = []
    if kind != "digits":
        numbers += [f"{space}{n:02}" for n in range(100) for space in ("", " ")]
        numbers += [f" {year}" for year in WHOLE_YEARS]
    if kind == "triples":
        numbers += [f"{space}{n}" for n in range(100, 1000) for space in ("", " ")]
    characters = list("0123456789 \n" + "".join(sorted({*english_text()})))
    everything = ["<bos>", *characters, *words, *(f" {word}" for word in words), *numbers]
    vocabulary = {written(piece): number for number, piece in enumerate(dict.fromkeys(everything))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<bos>"))
    pattern = Regex(rf" ?[A-Za-z]+|{NUMBERS[kind]}|[^A-Za-z]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", None, [("<bos>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        name_or_path=kind,
        add_bos_token=True,
        bos_token="<bos>",
        eos_token="<bos>",
        pad_token="<bos>",
    )


def model_of(kind: str) -> TransformerBridge:
    tokenizer = tokenizer_of(kind)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2)
    model = TransformerBridge.boot_transformers(
        kind, hf_model=GPT2LMHeadModel(config).eval(), tokenizer=tokenizer, device="cpu"
    )
    model.cfg.model_name = kind
    return model


@pytest.fixture(scope="module")
def by_digits():
    return model_of("digits")


@pytest.fixture(scope="module")
def by_pairs():
    return model_of("pairs")


@pytest.fixture(scope="module", params=["by_digits", "by_pairs"])
def model(request):
    return request.getfixturevalue(request.param)


SAMPLERS = [sample_greater_than, sample_docstrings, sample_capitals]


# --- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", SAMPLERS)
def test_two_hundred_different_prompts_of_one_length(model, sample):
    task = sample(model, 200, seed=0)
    assert len(set(task.prompts)) == len(task) == 200
    assert torch.equal(task.tokens, model.to_tokens(task.prompts))
    assert torch.equal(task.corrupted_tokens, model.to_tokens(task.corrupted_prompts))
    assert not (task.tokens == 0)[:, 1:].any(), "the tokenizer of this test knows every word"


@pytest.mark.parametrize("sample", SAMPLERS)
def test_a_seed_fixes_the_prompts_and_nothing_else_moves(model, sample):
    random.seed(5)
    torch.manual_seed(5)
    states = random.getstate(), torch.get_rng_state()
    one = sample(model, 30, seed=0)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert sample(model, 30, seed=0).prompts == one.prompts
    assert sample(model, 30, seed=1).prompts != one.prompts


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize("count", [0, -1, 10**18])
def test_more_prompts_than_there_are(by_digits, sample, count):
    with pytest.raises(ValueError, match=f"Asked for {count} different prompts; from 1 to [0-9]+ are"):
        sample(by_digits, count, seed=0)


@pytest.mark.parametrize("sample", SAMPLERS)
def test_without_a_beginning_of_sequence_token(by_digits, sample):
    with_bos, without = (sample(by_digits, 8, seed=0, prepend_bos=bos) for bos in (True, False))
    assert torch.equal(with_bos.tokens[:, 1:], without.tokens)
    for name, at in without.positions.items():
        assert torch.equal(with_bos.positions[name] - 1, at)


# --- greater-than ----------------------------------------------------------------------------------


def year_of(prompt: str) -> str:
    return re.search(r"\d{4}", prompt)[0]


@pytest.mark.parametrize("kind", ["digits", "pairs"])
def test_years_above_are_right_and_years_below_are_wrong(kind, request):
    model = request.getfixturevalue(f"by_{kind}")
    task = sample_greater_than(model, 200, seed=0)
    digits = {"digits": 1, "pairs": 2}[kind]
    for prompt, corrupted, answers, label in zip(
        task.prompts, task.corrupted_prompts, task.answers, task.labels, strict=True
    ):
        year = year_of(prompt)
        assert label == year
        assert prompt.endswith(f" {year[:2]}")
        assert corrupted == prompt.replace(year, year[:2] + "01")
        right, wrong = ([side] if isinstance(side, str) else list(side) for side in answers)
        start = int(year[2 : 2 + digits])
        numbers = range(10**digits)
        assert [int(end) for end in wrong] == [
            n for n in numbers if n < start and not drawn_in(year, n, kind)
        ]
        assert [int(end) for end in right] == [
            n for n in numbers if n > start and not drawn_in(year, n, kind)
        ]
        assert {len(end) for end in (*right, *wrong)} == {digits}
    assert "summed in probability" in repr(task)


def drawn_in(year: str, end: int, kind: str) -> bool:
    return kind == "pairs" and f"{year[:2]}{end:02}" in WHOLE_YEARS


@pytest.mark.parametrize("kind", ["digits", "pairs"])
def test_roles_of_greater_than(kind, request):
    task = sample_greater_than(request.getfixturevalue(f"by_{kind}"), 60, seed=1)
    for row, texts in enumerate(task.str_tokens):
        year = year_of(task.prompts[row])
        at = {name: texts[int(places[row])] for name, places in task.positions.items()}
        assert at["noun"].strip() in greater_than.ENGLISH.nouns
        assert at["century"].strip() == (year[1] if kind == "digits" else year[:2])
        assert at["start"] == (year[2] if kind == "digits" else year[2:])
        assert at["end"].strip() == (year[1] if kind == "digits" else year[:2])
        assert task.positions["century"][row] + 1 == task.positions["start"][row]


def test_decades_are_even_in_the_sample_and_in_a_slice(model):
    task = sample_greater_than(model, 200, seed=0)
    for part in (task, task.select(range(40, 80))):
        decades = Counter(label[2] for label in part.labels)
        assert max(decades.values()) - min(decades.values()) <= 1
        assert {*"12345678"} <= {*decades}
        assert len(Counter(label[:2] for label in part.labels)) == 7


def test_years_of_one_token_are_not_asked_for(by_pairs):
    words = replace(greater_than.ENGLISH, centuries=("17",), frames=greater_than.ENGLISH.frames[:1])
    nouns = len(words.nouns)
    # Of a hundred all but 1700 and 1750 (one token each), 1701 (as corrupted) and 1799 (nothing above).
    with pytest.raises(ValueError, match=f"from 1 to .* 96 start years, {nouns} nouns and 1 frames"):
        sample_greater_than(by_pairs, 10**9, seed=0, words=words)


@pytest.mark.parametrize("make_model", [lambda: model_of("triples"), tiny_gpt2])
def test_tokenizers_that_cannot_carry_years_are_refused(make_model):
    model = make_model()
    words = greater_than.ENGLISH
    if model.cfg.model_name != "triples":  # words only
        words = greater_than.GreaterThanWords(("w1 {noun} w2 {start} w3 {century}",), ("w4", "w5"))
    with pytest.raises(
        ValueError, match=r"writes 'in 1143' as \[.*Greater-than needs years that are parted"
    ):
        sample_greater_than(model, 4, seed=0, words=words)


@pytest.mark.parametrize(
    "frame",
    [
        "The {noun} from {start} to",
        "From {start} the {noun} to {century}",
        "{noun} {start} {century}",
        "a",
    ],
)
def test_frames_of_greater_than(by_digits, frame):
    with pytest.raises(ValueError, match=r"A frame needs {noun}, {start} and at its end {century}"):
        sample_greater_than(by_digits, 4, seed=0, words=replace(greater_than.ENGLISH, frames=(frame,)))


# --- docstrings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("against", "other"), [("fourth", 3), ("first", 0)])
def test_the_third_argument_is_next(by_digits, against, other):
    task = sample_docstrings(by_digits, 60, seed=0, against=against)
    for row, prompt in enumerate(task.prompts):
        signature = re.search(r"\(self, (.*)\):", prompt)[1].split(", ")
        documented = re.findall(r":param (\w+):", prompt)
        assert documented == signature[:2]
        assert prompt.endswith("\n    :param")
        assert task.answers[row] == (f" {signature[2]}", f" {signature[other]}")
        assert task.labels[row] == ", ".join(signature)
        traded = {signature[2]: signature[other], signature[other]: signature[2]}
        words = re.split(r"\b", prompt)
        assert task.corrupted_prompts[row] == "".join(traded.get(word, word) for word in words)
        texts = [text.strip() for text in task.str_tokens[row]]
        places = {name: int(at[row]) for name, at in task.positions.items()}
        for role, name in zip(ARGUMENTS, signature, strict=True):
            assert places[role] == texts.index(name)
        for role, name in zip(ARGUMENTS[:2], signature, strict=False):
            assert places[f"{role} again"] == texts.index(name, places[role] + 1)
    assert len(task.changed_positions) == (2 if against == "fourth" else 3)


def test_frames_are_even(by_digits):
    task = sample_docstrings(by_digits, 99, seed=0)
    openings = Counter(re.search(r'"""(\w+)', prompt)[1] for prompt in task.prompts)
    assert set(openings.values()) == {33}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": ()}, "frames is empty"),
        ({"frames": ("def {name}({first})",)}, "A frame needs {name}"),
        (
            {"frames": (docstrings.ENGLISH.frames[0].replace(" {third}", "{third}"),)},
            "must follow a space",
        ),
        ({"arguments": ("file", "path", "size")}, "3 of 3 arguments are one token"),
        ({"nouns": ("window",)}, "1 of 1 nouns"),
        ({"things": ("file", "house")}, r"No argument may be another word .*\['file'\]"),
    ],
)
def test_refusals_of_docstrings(by_digits, change, message):
    with pytest.raises(ValueError, match=message):
        sample_docstrings(by_digits, 4, seed=0, words=replace(docstrings.ENGLISH, **change))
    with pytest.raises(ValueError, match="got 'second'"):
        sample_docstrings(by_digits, 4, seed=0, against="second")


def test_words_of_docstrings_are_in_one_list_only():
    words = docstrings.ENGLISH
    lists = [words.names, words.arguments, words.things, words.adjectives, words.nouns]
    everything = [word for words in lists for word in words]
    assert len(everything) == len({*everything})


# --- capitals --------------------------------------------------------------------------------------


def test_another_countrys_capital_is_wrong(by_digits):
    task = sample_capitals(by_digits, 200, seed=0)
    known = capitals.ENGLISH.capitals
    for row, (clean, corrupted) in enumerate(zip(task.prompts, task.corrupted_prompts, strict=True)):
        country, other = ({*re.findall(r"\w+", text)} & {*known} for text in (clean, corrupted))
        [country], [other] = country, other
        assert clean == corrupted.replace(other, country)
        assert task.answers[row] == (f" {known[country]}", f" {known[other]}")
        assert task.str_tokens[row][int(task.positions["country"][row])] == f" {country}"
        assert task.labels[row] == country
    asked = Counter(task.labels)
    assert len(asked) == len(known)
    assert max(asked.values()) - min(asked.values()) <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": ("The capital of{country} is",)}, "country. once, after a space; got 'The"),
        ({"capitals": {"France": "Paris"}}, "1 of 1 countries .*two countries and a frame are needed"),
        ({"frames": ()}, "for 0 frames"),
        ({"capitals": {"France": "Paris", "New Italy": "Rome"}}, "1 of 2 countries"),
    ],
)
def test_refusals_of_capitals(by_digits, change, message):
    with pytest.raises(ValueError, match=message):
        sample_capitals(by_digits, 2, seed=0, words=replace(capitals.ENGLISH, **change))


def test_capitals_of_any_words():
    words = capitals.CapitalWords(("w1 {country} w2",), {"w10": "w20", "w11": "w21", "w12": "w22"})
    task = sample_capitals(tiny_gpt2(), 3, seed=0, words=words)
    for (_, country, _), answers in zip(map(str.split, task.prompts), task.answers, strict=True):
        assert answers[0] == f" w2{country[-1]}"


# --- SmolLM2 ---------------------------------------------------------------------------------------


# As measured on these dozen prompts. Differences of logits of order ten, in float32: two machines agree
# to some hundred-thousandths, and a prompt that changes moves them by more than a hundredth.
@pytest.mark.smollm2
@pytest.mark.parametrize(
    ("sample", "length", "clean", "corrupted"),
    [
        (sample_greater_than, 18, 3.7109, -1.8202),
        (sample_docstrings, 40, 4.8246, -3.9779),
        (sample_capitals, 9, 13.0733, -11.2870),
    ],
)
def test_the_embedded_model_does_the_tasks(smollm2, sample, length, clean, corrupted):
    task = sample(smollm2, 12, seed=0)
    assert task.tokens.shape == (12, length)
    check = task.check(smollm2)
    assert check.accuracy.value == 1
    assert check.clean.mean() == pytest.approx(clean, abs=2e-3)
    assert check.corrupted.mean() == pytest.approx(corrupted, abs=2e-3)
    assert sample(smollm2, 200, seed=0).corrupted_tokens.shape == (200, length)


@pytest.mark.smollm2
def test_the_embedded_model_says_the_decade_first(smollm2):
    task = sample_greater_than(smollm2, 8, seed=0)
    assert [label[2] for label in task.labels] == list("12345678")
    assert task.answers[4] == (tuple("6789"), tuple("01234"))
    starts = [task.str_tokens[row][at] for row, at in enumerate(task.positions["start"].tolist())]
    assert starts == list("12345678")
    assert task.combined_by("mean logit").directions(smollm2).shape == (8, smollm2.cfg.d_model)
