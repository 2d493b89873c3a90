"""path_patch_sweep against TransformerLens's own, and against plain hooks where that one refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformer_lens.patching import get_act_patch_direct_path

from helpers import path_patching
from helpers.head_scores import Head
from helpers.logit_diff import LogitDiff
from helpers.patching import patch_sweep
from helpers.path_patching import Path, path_patch_sweep, strongest_paths
from tests.tiny_models import tiny_gpt2, tiny_llama, tiny_odd

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])
METRIC = LogitDiff(torch.tensor([[4, 8], [8, 4]]))


def changed(position: int) -> Tensor:
    source = BASE.clone()
    source[:, position] += 1
    return source


def by_transformer_lens(model, source: Tensor, receiver: tuple[int, int], through: str) -> Tensor:
    """Its sweep is over receivers of one sender; ours over senders of one receiver."""
    (_, source_cache), (_, base_cache) = model.run_with_cache(source), model.run_with_cache(BASE)
    values = METRIC(model(BASE)[:, -1]).expand(model.cfg.n_layers, model.cfg.n_heads).clone()
    for layer in range(receiver[0]):
        for head in range(model.cfg.n_heads):
            effects = get_act_patch_direct_path(
                model,
                BASE,
                source_cache,
                base_cache,
                lambda logits: METRIC(logits[:, -1]),
                layer,
                head,
                through,
                verbose=False,
            )
            values[layer, head] = effects[receiver]
    return values


@pytest.mark.parametrize("position", [1, 5])
@pytest.mark.parametrize(
    ("make_model", "through"), [(tiny_gpt2, "q"), (tiny_gpt2, "k"), (tiny_gpt2, "v"), (tiny_llama, "q")]
)
@torch.no_grad()
def test_agrees_with_transformer_lens(make_model, through, position):
    model, source, receiver = make_model(), changed(position), (2, 3)
    ours = path_patch_sweep(model, BASE, source, receiver, through, METRIC)
    theirs = by_transformer_lens(model, source, receiver, through)
    # The same float32 sums in another order; effects here reach 0.1 and more.
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    if through == "v" or position < 5:
        assert (ours - ours[2, 0]).abs().max() > 0.01, "the comparison would notice"


def shared_input_by_hooks(model, source: Tensor, sender, receiver, through: str) -> Tensor:
    """One path into a key or value that query heads share, for one of them, with plain hooks."""
    (_, source_cache), (_, base_cache) = model.run_with_cache(source), model.run_with_cache(BASE)
    layer, head = receiver
    z_change = source_cache["z", sender[0]] - base_cache["z", sender[0]]
    write = z_change[:, :, sender[1]] @ model.blocks[sender[0]].attn.W_O[sender[1]]
    shared = head // (model.cfg.n_heads // (model.cfg.n_key_value_heads or model.cfg.n_heads))
    store = {}

    def hear(resid, hook):
        return resid + write

    def keep(activation, hook):
        store["heard"] = activation[:, :, shared].clone()

    def replace(activation, hook):
        activation[:, :, shared] = store["heard"]
        return activation

    def only_receiver(z, hook):
        result = base_cache["z", layer].clone()
        result[:, :, head] = z[:, :, head]
        return result

    names = [
        f"blocks.{layer}.hook_resid_pre",
        *(f"blocks.{layer}.attn.hook_{s}" for s in (through, "z")),
    ]
    model.run_with_hooks(BASE, fwd_hooks=[(names[0], hear), (names[1], keep)])
    return METRIC(
        model.run_with_hooks(BASE, fwd_hooks=[(names[1], replace), (names[2], only_receiver)])[:, -1]
    )


@pytest.mark.parametrize("through", ["k", "v"])
@torch.no_grad()
def test_shared_keys_and_values(through):
    model, source, receiver = tiny_llama(), changed(3), (2, 3)
    ours = path_patch_sweep(model, BASE, source, receiver, through, METRIC)
    for sender in [(0, 0), (1, 2), (1, 3)]:
        theirs = shared_input_by_hooks(model, source, sender, receiver, through)
        torch.testing.assert_close(ours[sender], theirs, atol=1e-4, rtol=0)
    assert (ours - ours[2, 0]).abs().max() > 0.01


@torch.no_grad()
def test_chunks_prompts_and_what_is_left_behind():
    model = tiny_llama()
    whole = path_patch_sweep(model, BASE, changed(3), (1, 0), "v", METRIC)
    per_prompt = LogitDiff(METRIC.answer_tokens, per_prompt=True)
    chunked = path_patch_sweep(model, BASE, changed(3), (1, 0), "v", per_prompt, chunk=1)
    assert chunked.shape == (3, 4, 2)
    torch.testing.assert_close(chunked.mean(-1), whole, atol=1e-5, rtol=0)
    assert torch.equal(whole[1:], whole[1, 0].expand(2, 4)), "no path from the receiver's layer on"
    assert not any(point.has_hooks() for point in model.hook_dict.values())


@pytest.mark.parametrize(
    ("receiver", "through", "message"),
    [
        ((0, 1), "q", "layer 0 hears no head"),
        ((3, 1), "q", "layers must be some of 0 … 2"),
        ((1, 4), "q", "heads must be some of 0 … 3"),
        ((1, 1), "z", "through must be"),
    ],
)
def test_refuses(receiver, through, message):
    with pytest.raises(ValueError, match=message):
        path_patch_sweep(tiny_gpt2(), BASE, changed(3), receiver, through, METRIC)


@torch.no_grad()
def test_refuses_a_norm_after_attention(monkeypatch):
    """Gemma 2: what a head adds is not z W_O, and the sum of what all heads add shows it."""
    model = tiny_odd("gemma2")
    monkeypatch.setattr(path_patching, "run_receiver", pytest.fail)
    with pytest.raises(NotImplementedError, match=r"layer 0, attention does not add .* z W_O"):
        path_patch_sweep(model, BASE, changed(3), (2, 3), "v", METRIC)
    assert patch_sweep(model, BASE, changed(3), "z", METRIC).shape == (3, 4), "as the message says"


@pytest.mark.parametrize("through", ["q", "k", "v"])
@torch.no_grad()
def test_attention_beside_the_mlp(through):
    """GPT-J, whose stream has no middle, against plain hooks."""
    model, source, receiver = tiny_odd("gptj"), changed(3), (2, 3)
    ours = path_patch_sweep(model, BASE, source, receiver, through, METRIC)
    for sender in [(0, 0), (1, 2)]:
        theirs = shared_input_by_hooks(model, source, sender, receiver, through)
        torch.testing.assert_close(ours[sender], theirs, atol=1e-4, rtol=0)
    assert (ours - ours[2, 0]).abs().max() > 0.01


def test_the_strongest_paths_of_all_inputs_by_size():
    receiver = Head(2, 0, 0.3)
    effects = {
        "query": torch.tensor([[0.1, -0.5], [0.0, 0.0]]),
        "value": torch.tensor([[0.2, 0.0], [0.0, 0.4]]),
    }
    found = strongest_paths(effects, receiver, 3)
    assert [(path.sender[:2], path.through) for path in found] == [
        ((0, 1), "query"), ((1, 1), "value"), ((0, 0), "value"),
    ]  # fmt: skip
    assert found[0] == Path(Head(0, 1, -0.5), "query", receiver)
    assert [path.sender.value for path in strongest_paths(effects, receiver, 9, at_least=0.3)] == [
        pytest.approx(-0.5), pytest.approx(0.4),
    ]  # fmt: skip
