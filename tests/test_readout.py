"""How logits are read out of the final stream: what is measured, what follows, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers import probe, readout
from helpers.logit_diff import logit_diff, logit_diff_directions, residual_stack_to_logit_diff
from helpers.precision import in_float
from helpers.probe import Readout, called, norm_weight
from helpers.processing import process_weights
from helpers.readout import check_heads, final_readout, linear_readout, read_directions, unembedding
from tests.architectures import ANSWERS, TOKENS, tiny, tiny_hf
from tests.constructed import constructed_model
from tests.tiny_models import bridge, tiny_gpt2, tiny_gpt2_hf, tiny_llama, tiny_llama_hf

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def after_unembedding(model: TransformerBridge, change: Callable[[Tensor], Tensor]) -> None:
    def changed(module, args, output):
        output.logits = change(output.logits)

    model.original_model.register_forward_hook(changed)


def unfolded(hf_model) -> TransformerBridge:
    """Processed, but that the norms keep their weights and biases."""
    model = bridge(hf_model, compatible=False)
    process_weights(model, fold_ln=False, center_unembed=False)
    return model


def assert_attribution_is_the_models(model: TransformerBridge) -> None:
    """The parts' attributions sum to the logit difference, up to what belongs to no part: biases."""
    with torch.no_grad():
        logits, cache = model.run_with_cache(TOKENS)
        stack = cache.decompose_resid(layer=-1, pos_slice=-1)
        directions = logit_diff_directions(model, ANSWERS)
        ours = residual_stack_to_logit_diff(stack, cache, directions, per_prompt=True).sum(0)
        bias = in_float(model.b_U[ANSWERS]) @ torch.tensor([1.0, -1.0])
        norm_bias = getattr(model.ln_final.original_component, "bias", None)
        if norm_bias is not None:
            bias = bias + directions @ norm_bias
        expected = logit_diff(logits, ANSWERS, per_prompt=True)
        torch.testing.assert_close(ours + bias * linear_readout(model).scale, expected, **CLOSE)
        # The other way round: the norm on the directions' side.
        scale = cache["ln_final.hook_scale"][:, -1]
        moved = (stack.sum(0) / scale * read_directions(model, directions)).sum(-1)
        torch.testing.assert_close(moved, ours, **CLOSE)


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama, constructed_model])
def test_as_in_gpt2_and_llama_nothing_is_added(make_model):
    """Exactly: multiplying by 1 changes no bit."""
    model = make_model()
    assert final_readout(model) == Readout(1.0, 0.0, None, None)
    assert norm_weight(model) is None
    assert torch.equal(unembedding(model), model.W_U)


@pytest.mark.parametrize("number", [0.25, 7.0, -1.0])
@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_a_number_that_logits_are_multiplied_by(make_model, number):
    model = make_model()
    plain = unembedding(make_model())
    after_unembedding(model, lambda logits: logits * number)
    assert final_readout(model).scale == pytest.approx(number, rel=1e-5)
    torch.testing.assert_close(unembedding(model), plain * number, **CLOSE)
    assert_attribution_is_the_models(model)


@pytest.mark.parametrize(
    "make_hf",
    [
        tiny_gpt2_hf,
        tiny_llama_hf,
        lambda: tiny_hf("GemmaForCausalLM"),
        lambda: tiny_hf("OlmoForCausalLM"),
    ],
    ids=["weight and bias", "weight", "offset from one", "neither"],
)
def test_a_last_norm_that_is_not_folded(make_hf):
    model = unfolded(make_hf())
    has_weight = hasattr(model.ln_final.original_component, "weight")
    assert (norm_weight(model) is not None) == has_weight
    assert_attribution_is_the_models(model)


def test_a_constant_added_to_all_logits_is_none_of_it():
    model = tiny_llama()
    after_unembedding(model, lambda logits: logits + 100)
    assert final_readout(model).scale == 1.0


def test_a_model_that_says_nothing():
    model = tiny_llama()
    model.unembed.original_component.weight.data.zero_()
    assert final_readout(model).scale == 1.0


def test_a_cap():
    case = tiny("Gemma2ForCausalLM")
    found = final_readout(case.model)
    assert (found.scale, found.cap) == (1.0, 30.0)
    assert found.finish(torch.tensor(60.0)).item() == pytest.approx(30 * 0.9640, abs=1e-3)
    message = r"^tiny \(Gemma2ForCausalLM\) squashes its logits \(soft cap 30\).* Patching and ablation"
    for use in (linear_readout, check_heads, unembedding):
        with pytest.raises(NotImplementedError, match=message):
            use(case.model)


@pytest.mark.parametrize("change", [torch.relu, lambda logits: logits * torch.arange(61)])
def test_what_is_no_number_after_unembedding_is_refused(change):
    model = tiny_gpt2()
    after_unembedding(model, change)
    for _ in range(2):  # what is refused is not taken for known
        with pytest.raises(
            NotImplementedError, match=r"^In tiny \(GPT2LMHeadModel\) .* after unembedding,.* Patching"
        ):
            final_readout(model)


def test_a_model_without_the_usual_places_is_refused():
    model = tiny("OpenAIGPTLMHeadModel").model
    with pytest.raises(NotImplementedError, match=r"no residual stream.*KeyError.*Choose a decoder"):
        final_readout(model)


def test_heads_that_are_normalised_before_they_are_added():
    model = tiny("Olmo2ForCausalLM").model
    assert "attention in block 0 does more" in final_readout(model).heads_fault
    with pytest.raises(NotImplementedError, match="no direct effect of a head to read off"):
        check_heads(model)


def test_layers_that_are_scaled_before_they_are_added():
    """What is written is not what the hook shows."""
    model = tiny_llama()
    double = {"hook": None}

    def larger(module, args, output):
        return output[0] * 2 if isinstance(output, tuple) else output * 2

    double["hook"] = model.blocks[1].mlp.register_forward_hook(larger)
    fault = final_readout(model).layers_fault
    assert fault == "block 1 adds something else to the stream than its attn_out and mlp_out"
    with pytest.raises(NotImplementedError, match="block 1 adds something else"):
        check_heads(model)


def test_parts_that_are_not_what_they_seem():
    """Where the stream is not the sum of what hooks show, only what the cache holds is read out."""
    model = tiny("Olmo2ForCausalLM").model
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS)
    directions = logit_diff_directions(model, ANSWERS)
    held = cache.accumulated_resid(layer=-1, incl_mid=True, pos_slice=-1)
    whole = residual_stack_to_logit_diff(held, cache, directions)
    torch.testing.assert_close(
        whole, residual_stack_to_logit_diff(held.double(), cache, directions).float()
    )
    with pytest.raises(
        NotImplementedError, match=r"parts of the stream are not what they seem.*resid_pre"
    ):
        residual_stack_to_logit_diff(held + 1, cache, directions)


@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_hooks_are_left_out_and_left_alone(fails):
    model = tiny_llama()
    if fails:
        after_unembedding(model, torch.relu)
    calls = []

    def halve(resid, hook):
        calls.append(hook.name)
        return resid / 2

    with torch.no_grad(), model.hooks(fwd_hooks=[("blocks.0.hook_resid_post", halve)]):
        changed = model(TOKENS)
        before = len(calls)
        if fails:
            with pytest.raises(NotImplementedError):
                final_readout(model)
        else:
            assert final_readout(model) == Readout(1.0, 0.0)
        assert len(calls) == before, "the caller's hook ran"
        assert torch.equal(model(TOKENS), changed)
        assert len(calls) > before
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_measured_once_and_again_after_processing(monkeypatch):
    measured = []
    monkeypatch.setattr(readout, "probe", lambda model: measured.append(model) or probe.probe(model))
    model = bridge(tiny_llama_hf(), compatible=False)
    for _ in range(3):
        final_readout(model)
    assert len(measured) == 1
    assert norm_weight(model) is not None
    process_weights(model)
    for _ in range(3):
        assert_attribution_is_the_models(model)
    assert len(measured) == 2
    model.to(torch.float64)
    final_readout(model)
    assert len(measured) == 3
    other = tiny_llama(seed=1)
    final_readout(other)
    assert measured[-1] is other


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("make_hf", [tiny_gpt2_hf, tiny_llama_hf])
def test_precision(make_hf, dtype):
    model = bridge(make_hf().to(dtype))
    assert final_readout(model) == Readout(1.0, 0.0)
    assert unembedding(model).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    halved = bridge(make_hf().to(dtype))
    after_unembedding(halved, lambda logits: logits / 2)
    assert final_readout(halved).scale == pytest.approx(0.5, rel=0.02)


def test_a_model_is_called_by_name_and_architecture():
    assert called(tiny_gpt2()) == "tiny (GPT2LMHeadModel)"
