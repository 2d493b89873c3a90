"""Prompts of unequal length, padded on the left: each gives what it gives alone.

The demos' own prompts are equally long; they tell the reader that this is the way for others.
"""

from __future__ import annotations

import pytest
import torch
from transformer_lens.utilities import get_attention_mask

from helpers.logit_diff import logit_diff, logit_diff_directions, residual_stack_to_logit_diff
from tests.tiny_models import tiny_gpt2, tiny_llama

TEXTS = ["w5 w6 w7 w8 w9 w3", "w5 w7", "w2 w5 w6 w7 w8 w9 w3 w2 w1", "w11 w4 w5"]
ANSWERS = torch.tensor([[4, 8], [8, 4], [3, 9], [2, 1]])

# The same sums in another order, of logits of order one to ten; a wrong position or an attended
# padding token moves them by tenths.
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def one_by_one(model, texts, answers):
    """Logit difference of each prompt in a batch of its own, without any padding."""
    return torch.cat(
        [
            logit_diff(model(model.to_tokens(text)), answer[None], per_prompt=True)
            for text, answer in zip(texts, answers, strict=True)
        ]
    )


def padded(model, texts):
    """Tokens and mask, as the demo says."""
    tokens = model.to_tokens(texts, padding_side="left")
    mask = get_attention_mask(model.tokenizer, tokens, prepend_bos=True, padding_side="left")
    return tokens, mask


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
class TestLeftPadding:
    @pytest.fixture
    def model(self, make_model):
        with torch.no_grad():
            yield make_model()

    @pytest.fixture
    def alone(self, model):
        return one_by_one(model, TEXTS, ANSWERS)

    def test_the_mask_covers_padding_and_nothing_else(self, model):
        """Not even the BOS token, which here, as in GPT-2, is the padding token as well."""
        tokens, mask = padded(model, TEXTS)
        assert model.tokenizer.pad_token_id == model.tokenizer.bos_token_id
        lengths = [model.to_tokens(text).shape[1] for text in TEXTS]
        assert mask.sum(1).tolist() == lengths
        assert all(row[-n:].all() for row, n in zip(mask, lengths, strict=True))
        assert tokens.shape == (4, max(lengths))

    def test_with_a_mask(self, model, alone):
        tokens, mask = padded(model, TEXTS)
        ours = logit_diff(model(tokens, attention_mask=mask), ANSWERS, per_prompt=True)
        torch.testing.assert_close(ours, alone, **CLOSE)

    def test_given_texts_the_model_does_it_by_itself(self, model, alone):
        ours = logit_diff(model(TEXTS, padding_side="left"), ANSWERS, per_prompt=True)
        torch.testing.assert_close(ours, alone, **CLOSE)

    def test_attribution_sums_to_it(self, model, alone):
        tokens, mask = padded(model, TEXTS)
        _, cache = model.run_with_cache(tokens, attention_mask=mask)
        directions = logit_diff_directions(model, ANSWERS)
        stack = cache.decompose_resid(layer=-1, pos_slice=-1)
        parts = residual_stack_to_logit_diff(stack, cache, directions, per_prompt=True)
        bias = model.b_U[ANSWERS[:, 0]] - model.b_U[ANSWERS[:, 1]]
        torch.testing.assert_close(parts.sum(0) + bias, alone, **CLOSE)

    @pytest.mark.parametrize("mask_of", [None, "tokens != pad"])
    def test_what_the_demo_warns_of_does_go_wrong(self, model, alone, mask_of):
        """Without a mask; and with the mask that first comes to mind, which hides the BOS token."""
        tokens, _ = padded(model, TEXTS)
        mask = None if mask_of is None else (tokens != model.tokenizer.pad_token_id).long()
        wrong = logit_diff(model(tokens, attention_mask=mask), ANSWERS, per_prompt=True)
        assert (wrong - alone).abs().max() > 0.1


@pytest.mark.smollm2
def test_the_embedded_model(smollm2):
    model = smollm2
    texts = [
        "When John and Mary went to the shops, John gave the bag to",
        "Mary and John talked. John gave a bag to",
        "Then, John and Mary went home and John said hello to",
    ]
    answers = model.to_tokens([" Mary", " John"], prepend_bos=False)[:, 0].expand(3, 2)
    with torch.no_grad():
        tokens, mask = padded(model, texts)
        ours = logit_diff(model(tokens, attention_mask=mask), answers, per_prompt=True)
        # Thirty layers, residual streams of norm in the hundreds: ten times the tiny models' tolerance.
        torch.testing.assert_close(ours, one_by_one(model, texts, answers), atol=1e-3, rtol=1e-3)
