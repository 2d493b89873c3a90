"""Sampled IOI prompts: what they hold, that a seed fixes them, and what is refused."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.ioi.dataset import ENGLISH, IOIWords, sample_ioi
from tests.tiny_models import tiny_gpt2, tiny_llama

WORDS = IOIWords(
    frames=(
        "w1 {first} w2 {second} w3 {place} w4 {subject} w5 {object} w6",
        "w7 {place} w9 w2 {first} {second} w8 {subject} w5 {object} w6",
    ),
    names=tuple(f"w{i}" for i in range(20, 26)),
    places=("w40", "w41"),
    objects=("w50", "w51", "w52"),
)
POSSIBLE = 2 * 2 * 6 * 5 * 2 * 3  # frames, orders, names, names left, places, objects


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama])
def model(request):
    return request.param()


@pytest.fixture(scope="module")
def sample(model):
    return sample_ioi(model, 100, seed=0, words=WORDS)


def words_of(tokens) -> list[list[str]]:
    return [[f"w{token}" for token in row] for row in tokens.tolist()]


def test_all_possible_prompts_can_be_drawn_and_differ(model):
    everything = sample_ioi(model, POSSIBLE, seed=3, words=WORDS)
    assert len(set(everything.prompts)) == len(everything) == POSSIBLE
    with pytest.raises(
        ValueError, match=f"Asked for {POSSIBLE + 1} .* from 1 to {POSSIBLE} are possible"
    ):
        sample_ioi(model, POSSIBLE + 1, seed=3, words=WORDS)


def test_frames_and_orders_are_even_in_the_sample_and_in_a_slice(sample):
    for part in (sample, sample.select(range(20))):
        counts = Counter(zip(part.frame.tolist(), part.order, strict=True))
        assert set(counts.values()) == {len(part) // 4}
        assert len(counts) == 4


def test_labels_agree_with_the_text(model, sample):
    """Read back from the prompts as words, without any of the sampler's own bookkeeping."""
    assert torch.equal(sample.tokens, model.to_tokens(sample.prompts))
    for row, prompt in enumerate(sample.prompts):
        words = ["<bos>", *prompt.split()]
        counts = Counter(word for word in words if word in WORDS.names)
        (subject, twice), (indirect_object, once) = counts.most_common()
        assert (twice, once) == (2, 1)
        assert sample.answers[row] == (f" {indirect_object}", f" {subject}")
        assert sample.answer_tokens[row].tolist() == [int(indirect_object[1:]), int(subject[1:])]
        first_mention = words.index(subject)
        assert {where: int(at[row]) for where, at in sample.positions.items()} == {
            "IO": words.index(indirect_object),
            "S1": first_mention,
            "S2": words.index(subject, first_mention + 1),
            "end": len(words) - 1,
        }
        assert sample.order[row] == ("ABBA" if words.index(indirect_object) < first_mention else "BABA")
        assert (words[1] == "w1") == (sample.frame[row] == 0)


def test_corrupted_variants(sample):
    before = words_of(sample.tokens)
    rows = range(len(sample))
    at = {where: positions.tolist() for where, positions in sample.positions.items()}

    def changed(variant) -> list[dict[int, str]]:
        return [
            {i: new for i, (old, new) in enumerate(zip(*pair, strict=True)) if old != new}
            for pair in zip(before, words_of(variant), strict=True)
        ]

    for row, new in zip(rows, changed(sample.swapped_subject), strict=True):
        assert new == {at["S2"][row]: sample.answers[row][0].strip()}
    for row, new in zip(rows, changed(sample.third_name), strict=True):
        assert list(new) == [at["S2"][row]]
        assert new[at["S2"][row]] in set(WORDS.names) - {name.strip() for name in sample.answers[row]}
    for row, new in zip(rows, changed(sample.random_names), strict=True):
        assert sorted(new) == sorted(at[where][row] for where in ("IO", "S1", "S2"))
        own = {name.strip() for name in sample.answers[row]}
        assert len(set(new.values())) == 3
        assert set(new.values()) <= set(WORDS.names) - own


def test_select_keeps_rows_together(sample):
    part = sample.select([7, 3])
    assert part.prompts == [sample.prompts[7], sample.prompts[3]]
    for name in ("tokens", "answer_tokens", "other_tokens", "frame", "random_names", "swapped_subject"):
        assert torch.equal(getattr(part, name), getattr(sample, name)[[7, 3]])


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor], ids=["list", "array", "tensor"])
def test_select_indexes_as_numpy_does(sample, kind):
    everything = np.array(sample.prompts)
    mask = [order == "ABBA" for order in sample.order]
    for rows in (mask, [7, -1, 7], [len(sample) - 1]):
        part = sample.select(kind(rows))
        assert part.prompts == everything[rows].tolist()
        assert part.order == np.array(sample.order)[rows].tolist()
        assert torch.equal(part.tokens, sample.tokens[rows])
    with pytest.raises(IndexError, match="2 Booleans for 100 prompts"):
        sample.select(kind([True, False]))
    with pytest.raises(IndexError, match="100"):
        sample.select(kind([0, 100]))
    with pytest.raises(IndexError, match="-101"):
        sample.select(kind([-101]))
    with pytest.raises(IndexError, match="101 Booleans for 100 prompts"):
        sample.select(kind([True] * 101))
    with pytest.raises(TypeError, match="float"):
        sample.select(kind([0.0, 1.0]))
    with pytest.raises(TypeError, match="shape"):
        sample.select(kind([[0], [1]]))


@pytest.mark.parametrize("rows", [slice(None, None, -3), slice(5), range(4, 0, -1), [], slice(0)])
def test_select_takes_slices_ranges_and_nothing(sample, rows):
    chosen = rows if isinstance(rows, slice) else list(rows)
    part = sample.select(rows)
    assert part.prompts == [sample.prompts[row] for row in np.arange(len(sample))[chosen].astype(int)]
    assert len(part.tokens) == len(part)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_select_takes_numbers_of_every_width(sample, dtype):
    """As NumPy: uint8 are numbers, not a mask."""
    for rows in (torch.tensor([1, 0, 1], dtype=dtype), torch.tensor([1, 0, 1], dtype=dtype).numpy()):
        assert sample.select(rows).prompts == [sample.prompts[row] for row in (1, 0, 1)]
    assert len(sample.select(torch.tensor([], dtype=dtype))) == 0


@pytest.mark.parametrize("rows", [3, np.int64(3), torch.tensor(3), True, None, "1", 1.0, ["1"], ...])
def test_select_refuses_what_is_no_vector(sample, rows):
    with pytest.raises(TypeError, match="Rows are chosen by a vector of whole numbers or Booleans"):
        sample.select(rows)


def test_a_seed_fixes_the_prompts_and_nothing_else_moves(model):
    random.seed(5)
    torch.manual_seed(5)
    states = random.getstate(), torch.get_rng_state()
    one = sample_ioi(model, 30, seed=0, words=WORDS)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    random.seed(6)
    again, other = (sample_ioi(model, 30, seed=seed, words=WORDS) for seed in (0, 1))
    assert again.prompts == one.prompts
    assert torch.equal(again.random_names, one.random_names)
    assert other.prompts != one.prompts


def test_the_same_prompts_on_every_machine(model):
    """Written down once; another machine, Python or torch must come to the same."""
    sample = sample_ioi(model, 4, seed=0, words=WORDS)
    assert sample.prompts == [
        "w1 w23 w2 w21 w3 w40 w4 w21 w5 w52 w6",
        "w1 w23 w2 w22 w3 w41 w4 w23 w5 w52 w6",
        "w7 w41 w9 w2 w20 w22 w8 w22 w5 w51 w6",
        "w7 w40 w9 w2 w22 w21 w8 w22 w5 w50 w6",
    ]
    assert sample.other_tokens.tolist() == [[25, 22, 24], [25, 21, 20], [23, 25, 21], [20, 24, 23]]


def test_words_of_several_tokens_and_frames_of_other_lengths_are_left_out(model):
    words = replace(
        WORDS,
        frames=(WORDS.frames[0] + " w9", *WORDS.frames),
        names=(*WORDS.names, "w30 w31"),
        places=(*WORDS.places, "w42 w43"),
        objects=("w53 w54", *WORDS.objects),
    )
    assert (
        sample_ioi(model, 20, seed=0, words=words).prompts
        == sample_ioi(model, 20, seed=0, words=WORDS).prompts
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": ()}, "frames is empty"),
        ({"frames": ("w1 {first} w2 {second} {subject} {object} w6",)}, "once each in a frame; got 'w1"),
        ({"frames": (WORDS.frames[0] + " {place}",)}, "once each in a frame"),
        ({"frames": ("{first} {second} {place} {subject} {object}",)}, "must follow a space"),
        ({"names": WORDS.names[:4]}, "4 of 4 names are one token of .*at least 5"),
        ({"places": ("w40 w41",)}, "0 of 1 places"),
        ({"objects": ("w50 w51",)}, "0 of 1 objects"),
        ({"names": ("w1", *WORDS.names[:4])}, "Expected ' w.*found"),
    ],
)
def test_refusals_name_the_offender(model, change, message):
    with pytest.raises(ValueError, match=message):
        sample_ioi(model, 60, seed=0, words=replace(WORDS, **change))


@pytest.mark.parametrize("count", [0, -1])
def test_no_prompts_cannot_be_asked_for(model, count):
    with pytest.raises(ValueError, match=f"Asked for {count} "):
        sample_ioi(model, count, seed=0, words=WORDS)


def test_english_words_do_not_overlap():
    """A place called like a name would be found as one."""
    kinds = [ENGLISH.names, ENGLISH.places, ENGLISH.objects]
    everything = [word for kind in kinds for word in kind]
    assert len(everything) == len(set(everything))


@pytest.mark.smollm2
def test_english_prompts_on_the_embedded_model(smollm2):
    sample = sample_ioi(smollm2, 200, seed=0)
    assert sample.frames == ENGLISH.frames, "all are of one length for this tokenizer"
    assert len(set(sample.prompts)) == 200
    assert sample.tokens.shape == (200, 15)


def test_english_prompts_on_gpt2s_files(narrow_gpt2):
    sample = sample_ioi(narrow_gpt2, 200, seed=0)
    assert sample.frames == ENGLISH.frames
    assert sample.tokens.shape == (200, 15)


@pytest.mark.parametrize("orders", [("same",), ("other",), ("same", "other")])
def test_strangers_share_no_name_and_have_the_order_asked_for(sample, orders):
    strangers = sample.strangers(5, orders)
    assert len(strangers) == len(sample)
    seen = set()
    for row, other in enumerate(strangers):
        assert not {*sample.answers[row]} & {*sample.answers[other]}
        seen.add("same" if sample.order[row] == sample.order[other] else "other")
    assert seen == {*orders}
    assert strangers == sample.strangers(5, orders)
    assert strangers != sample.strangers(6, orders)


def test_strangers_that_there_are_not(sample):
    with pytest.raises(ValueError, match=r"No prompt .* prompt 0 \('w1 .* larger sample"):
        sample.select([0, 0]).strangers(0)
    with pytest.raises(ValueError, match='"same", "other" or both; got'):
        sample.strangers(0, ("ABBA",))
    with pytest.raises(ValueError, match='"same", "other" or both; got'):
        sample.strangers(0, ())
