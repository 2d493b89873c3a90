"""Where a piece of text is among tokens, against the bytes that each token stands for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers.spans import Piece, find_span, last_token_of
from tests.gpt2_shape import gpt2_like_tokenizer

TEXTS = [
    "When John and Mary went to the shops, John gave the bag to",
    " The war lasted from the year 1743 to the year 17",
    "café naïve 日本 émile 🙂 the end",
    'def load(self, path, size):\n    """Load it.\n\n    :param path:  double  spaces',
]


class WithoutOffsets:
    """A tokenizer that, like those not written in Rust, cannot tell which characters a token is of."""

    is_fast = False

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def decode(self, tokens, **options):
        return self.tokenizer.decode(tokens, **options)


@pytest.fixture(scope="module")
def byte_level():
    return gpt2_like_tokenizer()


@pytest.fixture(scope="module", params=[True, False], ids=["offsets", "no offsets"])
def model(request, byte_level):
    return SimpleNamespace(tokenizer=byte_level if request.param else WithoutOffsets(byte_level))


def last_by_bytes(tokenizer, text: str, row: list[int], start: int, end: int) -> int:
    """In a byte-level vocabulary a character of a token's name is a byte of the text."""
    first_byte, last_byte = len(text[:start].encode()), len(text[:end].encode()) - 1
    position = 0
    for index, name in enumerate(tokenizer.convert_ids_to_tokens(row)):
        position += len(name)
        if position > last_byte:
            assert position > first_byte
            return index
    raise AssertionError


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("before", [[], [50256]], ids=["no bos", "bos"])
def test_every_piece_of_a_text(byte_level, model, text, before):
    row = byte_level(text)["input_ids"]
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if text[end - 1].isspace():
                continue
            expected = len(before) + last_by_bytes(byte_level, text, row, start, end)
            assert last_token_of(model, text, before + row, Piece(start, end)) == expected


def test_space_at_the_end_of_a_piece_is_the_next_tokens(byte_level, model):
    text = TEXTS[0]
    row = byte_level(text)["input_ids"]
    place = last_token_of(model, text, row, find_span(text, " and "))
    assert byte_level.decode([row[place]]) == " and"


@pytest.mark.parametrize(
    ("span", "start"),
    [
        ("Mary", 14),
        ("John#1", 5),
        ("John#2", 38),
        ("John#-1", 38),
        (("John", 1), 5),
        (("John", -2), 5),
        (" the#2", 47),
        ("John gave", 38),
    ],
)
def test_which_one_is_meant(span, start):
    assert find_span(TEXTS[0], span).start == start


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("Johnson and John", "John", 12),
        ("load(self, path, a)", "a", 17),
        ("the year 1743 to the year 17", "17", 26),
        ("the year 1743 to the year 17", "174", 9),
        ("a_b, b", "b", 5),
        ("x", "x", 0),
    ],
)
def test_a_part_of_a_word_is_meant_only_where_there_is_no_other(text, span, expected):
    assert find_span(text, span).start == expected


def test_a_number_sign_that_is_in_the_text_is_text():
    assert find_span("ticket A#2 of A", "A#2") == (7, 10)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ("Peter", "'Peter' is not in it"),
        ("Peter#2", "'Peter' is not in it"),
        ("John", r"'John' is in it 2 times: #1 in 'When John and Mar', #2 in .*'John#1' is the first"),
        ("John#3", "'John' is in it 2 times; there is no number 3"),
        ("John#0", "no number 0"),
        (("John", -3), "no number -3"),
        ("", "An empty text"),
    ],
)
def test_refusals_say_what_to_do(span, message):
    with pytest.raises(ValueError, match=message):
        find_span(TEXTS[0], span)


@pytest.fixture(scope="module")
def sentencepiece_like():
    """As Llama 2's: a space is put before the text, and decoding takes it away again."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=["<s>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS[:1] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


@pytest.mark.parametrize("with_offsets", [True, False])
def test_a_space_that_the_tokenizer_adds(sentencepiece_like, with_offsets):
    text = TEXTS[0]
    row = [0, *sentencepiece_like(text, add_special_tokens=False)["input_ids"]]
    tokenizer = sentencepiece_like if with_offsets else WithoutOffsets(sentencepiece_like)
    words = text.split()
    for number, word in enumerate(words):
        piece = find_span(text, (word, words[: number + 1].count(word)))
        place = last_token_of(SimpleNamespace(tokenizer=tokenizer), text, row, piece)
        assert sentencepiece_like.decode(row[1 : place + 1]).startswith(text[: piece.end])
        assert not sentencepiece_like.decode(row[1:place]).startswith(text[: piece.end])


def test_tokens_that_do_not_give_the_text_back(byte_level):
    """As of a tokenizer that writes everything small: refused, not guessed."""
    row = byte_level(TEXTS[0].lower())["input_ids"]
    model = SimpleNamespace(tokenizer=WithoutOffsets(byte_level))
    with pytest.raises(ValueError, match=r"'Mary' cannot be found .* Give a token position"):
        last_token_of(model, TEXTS[0], row, find_span(TEXTS[0], "Mary"))
