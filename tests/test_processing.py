"""Weights are rewritten without changing what the model computes, or it is said."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from helpers.models import load_model
from helpers.processing import process_weights
from tests.architectures import TOKENS, tiny_hf
from tests.tiny_models import bridge, tiny_gpt2_hf, tiny_llama_hf, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

MAKERS = [tiny_gpt2_hf, tiny_llama_hf]
HALF_AND_FULL = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("make_hf", MAKERS)
@pytest.mark.parametrize("dtype", HALF_AND_FULL)
def test_the_same_model_is_let_through(make_hf, dtype):
    model = bridge(make_hf().to(dtype), compatible=False)
    process_weights(model)
    assert model.compatibility_mode


@pytest.mark.parametrize("make_hf", MAKERS)
@pytest.mark.parametrize("dtype", HALF_AND_FULL)
def test_another_one_is_not(make_hf, dtype, monkeypatch):
    process = TransformerBridge.enable_compatibility_mode

    def wrongly(model, **options):
        process(model, **options)
        with torch.no_grad():
            model.blocks[1].attn.o.weight.mul_(-1)

    monkeypatch.setattr(TransformerBridge, "enable_compatibility_mode", wrongly)
    model = bridge(make_hf().to(dtype), compatible=False)
    with pytest.raises(
        NotImplementedError, match=r"^tiny \(.*\) computes something else.* Choose another"
    ):
        process_weights(model)


def test_load_model_refuses_what_processing_changes(tmp_path):
    """The router of Ernie 4.5 MoE reads a norm whose weight is folded elsewhere."""
    tiny_hf("Ernie4_5_MoeForCausalLM").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(NotImplementedError, match=r"Ernie4_5_MoeForCausalLM\) computes something else"):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_compared_without_dropout_and_left_in_its_mode(training):
    model = bridge(tiny_gpt2_hf(), compatible=False)
    model.train(training)
    process_weights(model)
    assert model.training == training
    model.eval()
    plain = tiny_gpt2_hf().eval()(TOKENS).logits.log_softmax(-1)
    torch.testing.assert_close(model(TOKENS).log_softmax(-1), plain, atol=1e-4, rtol=1e-4)
