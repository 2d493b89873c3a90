"""Head scores, against patterns whose scores are known and loops that cannot be misread."""

from __future__ import annotations

import pytest
import torch

from helpers.head_scores import (
    Head,
    attention_between,
    attention_scores,
    diagonal_score,
    kind_offsets,
    repeated_random_tokens,
    top_heads,
)
from tests.tiny_models import tiny_gpt2, tiny_llama


def test_top_heads_in_each_order():
    values = torch.tensor([[1.0, -4.0], [3.0, 0.0]])
    assert top_heads(values, 2) == [(1, 0, 3.0), (0, 0, 1.0)]
    assert top_heads(values, 2, smallest=True) == [(0, 1, -4.0), (1, 1, 0.0)]
    assert top_heads(values, 2, by_size=True) == [(0, 1, -4.0), (1, 0, 3.0)]
    with pytest.raises(ValueError, match="got both"):
        top_heads(values, 1, smallest=True, by_size=True)


def test_tokens_are_those_of_the_published_scores():
    model = tiny_gpt2()
    model.cfg.d_vocab = 50257  # only the range is checked against it
    torch.manual_seed(0)
    expected = torch.randint(100, 20_000, (2, 100))
    torch.manual_seed(123)  # whatever the global generator does
    tokens = repeated_random_tokens(model)
    assert torch.equal(tokens, torch.cat([expected, expected], dim=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "vocabulary of tiny"), ({"high": 30, "low": 30}, "low=30"), ({"batch": 0}, "batch")],
)
def test_impossible_tokens_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        repeated_random_tokens(tiny_gpt2(), **options)


@pytest.mark.parametrize("offset", [1, 4, 5])
def test_a_head_that_only_looks_there_scores_one(offset):
    pattern = torch.zeros(1, 2, 10, 10)
    for dest in range(offset, 10):
        pattern[:, 0, dest, dest - offset] = 1
    pattern[:, 1] = torch.eye(10)
    assert diagonal_score(pattern, offset).tolist() == [1, 0]


def test_uniform_attention_scores_its_null():
    seen = torch.arange(1, 11.0)  # positions that each destination can see
    pattern = (torch.ones(10, 10) / seen[:, None]).tril()[None, None]
    assert diagonal_score(pattern, 4).item() == pytest.approx((1 / seen[4:]).mean().item())


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_scores_equal_a_plain_loop(make_model):
    model = make_model()
    length = 7
    tokens = repeated_random_tokens(model, batch=3, length=length, low=1, high=60)
    with torch.no_grad():
        scores = attention_scores(model, tokens)
        _, cache = model.run_with_cache(tokens)
    for kind, offset in kind_offsets(length).items():
        for layer in range(model.cfg.n_layers):
            for head in range(model.cfg.n_heads):
                seen = [
                    cache["pattern", layer][row, head, dest, dest - offset].item()
                    for row in range(3)
                    for dest in range(offset, 2 * length)
                ]
                assert scores[kind][layer, head].item() == pytest.approx(sum(seen) / len(seen), abs=1e-6)


def test_tokens_that_do_not_repeat_are_refused():
    with pytest.raises(ValueError, match="halves differ"):
        attention_scores(tiny_gpt2(), torch.tensor([[1, 2, 3, 4]]))


def test_no_hooks_are_left_behind():
    model = tiny_gpt2()
    attention_scores(model, torch.tensor([[1, 2, 1, 2]]))
    assert not any(hook.fwd_hooks for hook in model.hook_dict.values())


def test_top_heads():
    values = torch.tensor([[0.1, -3.0], [2.0, 0.5]])
    assert top_heads(values, 2) == [Head(1, 0, 2.0), Head(1, 1, 0.5)]
    assert top_heads(values, 1, smallest=True) == [Head(0, 1, -3.0)]
    assert top_heads(values, 1)[0].name == "L1H0"
    with pytest.raises(ValueError, match="count 5"):
        top_heads(values, 5)


@pytest.mark.parametrize("build", [tiny_gpt2, tiny_llama])
def test_attention_between_positions_of_each_prompt(build):
    model = build()
    tokens = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])
    _, cache = model.run_with_cache(tokens)
    places = [(5, 1), (3, 2)]  # one destination and source for each prompt
    ours = attention_between(cache, *torch.tensor(places).unbind(1))
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            each = [cache["pattern", layer][row, head, to, of] for row, (to, of) in enumerate(places)]
            assert ours[layer, head].item() == pytest.approx((sum(each) / 2).item(), abs=1e-6)
    with pytest.raises(ValueError, match="each of the 2 prompts"):
        attention_between(cache, torch.tensor([5]), torch.tensor([1, 2]))
    _, some = model.run_with_cache(
        tokens, names_filter=lambda name: "pattern" in name and ".1." not in name
    )
    with pytest.raises(NotImplementedError, match="no attention pattern of layer 1"):
        attention_between(some, torch.tensor([5, 3]), torch.tensor([1, 2]))
