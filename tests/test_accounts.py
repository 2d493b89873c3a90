"""An account of an ablation, against whole runs by TransformerLens and against freezing part by part."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.utilities import get_act_name

from helpers.accounts import account_for, head_attribution
from helpers.head_scores import Head
from helpers.logit_diff import logit_diff
from tests.tiny_models import tiny_gpt2, tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = torch.tensor(
    [[0, 5, 10, 6, 11, 7, 11, 8], [0, 5, 11, 6, 10, 7, 10, 8], [0, 1, 2, 3, 4, 5, 6, 7]]
)
ANSWERS = torch.tensor([[10, 11], [11, 10], [3, 9]])
HEAD = Head(1, 2, 0.0)
END = TOKENS.shape[1] - 1


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama])
def model(request):
    return request.param()


@pytest.fixture(scope="module")
def output(model):
    return torch.randn(len(TOKENS), model.cfg.d_head, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def account(model, output):
    return account_for(model, TOKENS, ANSWERS, {"x": (HEAD, output)})["x"]


def replaced(model, output):
    def hook(z, hook):
        z[:, END, HEAD.head] = output
        return z

    return get_act_name("z", HEAD.layer), hook


def held(cache, site, layer, number=None):
    """A hook: at the last position as in the cached run."""

    def hook(activation, hook):
        at = (slice(None), END) if number is None else (slice(None), END, number)
        activation[at] = cache[site, layer][at]
        return activation

    return get_act_name(site, layer), hook


@torch.no_grad()
def clean_and_changed(model, output):
    clean_logits, clean = model.run_with_cache(TOKENS)
    with model.hooks(fwd_hooks=[replaced(model, output)]):
        changed_logits, changed = model.run_with_cache(TOKENS)
    return clean_logits, clean, changed_logits, changed


def test_each_part_is_what_it_writes_differently_in_whole_runs(model, output, account):
    clean_logits, clean, changed_logits, changed = clean_and_changed(model, output)
    torch.testing.assert_close(account.before, logit_diff(clean_logits, ANSWERS, per_prompt=True))
    torch.testing.assert_close(
        account.after, logit_diff(changed_logits, ANSWERS, per_prompt=True), atol=1e-5, rtol=1e-5
    )
    arguments = {"layer": -1, "pos_slice": -1, "apply_ln": False}
    columns = model.W_U[:, ANSWERS]  # [d_model, prompt, answer]
    direction = (columns[..., 0] - columns[..., 1]).T / clean["ln_final.hook_scale"][:, END]

    def effect(part):  # weights of the last norm are folded in, and it is centred, or does not centre
        return ((part(changed) - part(clean)) * direction).sum(-1)

    by_head = effect(lambda cache: cache.stack_head_results(**arguments)[: model.cfg.n_layers * 4])
    by_head = by_head.unflatten(0, (model.cfg.n_layers, 4))
    torch.testing.assert_close(account.direct, by_head[HEAD[:2]], atol=1e-5, rtol=1e-4)
    by_head[HEAD[:2]] = 0
    torch.testing.assert_close(account.heads, by_head, atol=1e-5, rtol=1e-4)
    for layer in range(model.cfg.n_layers):
        by_mlp = effect(lambda cache, layer=layer: cache["mlp_out", layer][:, END])
        torch.testing.assert_close(account.mlps[layer], by_mlp, atol=1e-5, rtol=1e-4)


def test_the_parts_add_up_and_earlier_ones_do_not_change(account):
    torch.testing.assert_close(account.parts, account.after - account.before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(account.made_up, account.parts - account.direct, atol=1e-5, rtol=1e-5)
    assert account.made_up.abs().min() > 1e-4
    assert account.heads[: HEAD.layer + 1].abs().max() < 1e-5
    assert account.heads[HEAD.layer + 1 :].abs().max() > 1e-3
    assert account.mlps[: HEAD.layer].abs().max() < 1e-5
    assert account.scale.abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("everything", [False, True])
def test_frozen_parts_take_their_bars_away(model, output, account, everything):
    """The last MLP alone, which no part comes after; or all later parts: the head's own is left."""
    _, clean, _, _ = clean_and_changed(model, output)
    last = model.cfg.n_layers - 1
    hooks = [held(clean, "mlp_out", last)]
    if everything:
        hooks += [held(clean, "z", layer) for layer in range(HEAD.layer + 1, last + 1)]
        hooks += [held(clean, "mlp_out", layer) for layer in range(HEAD.layer, last)]
    kept = get_act_name("resid_post", last)
    streams = []
    for also in ([], hooks):
        with model.hooks(fwd_hooks=[replaced(model, output), *also]):
            _, run = model.run_with_cache(TOKENS, names_filter=kept)
        streams.append(run[kept][:, END])
    columns = model.W_U[:, ANSWERS]
    direction = (columns[..., 0] - columns[..., 1]).T / clean["ln_final.hook_scale"][:, END]
    if everything:
        left = ((streams[1] - clean["resid_post", last][:, END]) * direction).sum(-1)
        torch.testing.assert_close(account.direct, left, atol=1e-5, rtol=1e-4)
    else:
        taken = ((streams[0] - streams[1]) * direction).sum(-1)
        torch.testing.assert_close(account.mlps[last], taken, atol=1e-5, rtol=1e-4)


def test_head_attribution_is_what_is_lost_by_zero_ablation(model):
    attribution = head_attribution(model, TOKENS, ANSWERS, batch=2)
    assert attribution.shape == (model.cfg.n_layers, 4, len(TOKENS))
    zero = torch.zeros(len(TOKENS), model.cfg.d_head)
    heads = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(4)]
    for head, account in account_for(model, TOKENS, ANSWERS, {h: (h, zero) for h in heads}).items():
        torch.testing.assert_close(attribution[head], -account.direct, atol=1e-5, rtol=1e-4)


def test_the_summary_is_in_the_order_of_figures(account):
    first, *groups, last = account.summary.values()
    assert torch.equal(first, account.direct)
    torch.testing.assert_close(sum(groups), last, atol=1e-5, rtol=1e-5)


def test_batches_and_several_replacements_are_the_same_one_by_one(model, output, account):
    other = torch.zeros_like(output)
    several = account_for(
        model, TOKENS, ANSWERS, {"other": ((0, 1), other), HEAD: (HEAD, output)}, batch=2, progress=False
    )
    assert list(several) == ["other", HEAD]
    for ours, theirs in zip(several[HEAD], account, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(several["other"].direct, account.direct)


def test_the_clean_output_changes_nothing(model):
    _, cache = model.run_with_cache(TOKENS)
    own = cache["z", HEAD.layer][:, END, HEAD.head].detach()
    account = account_for(model, TOKENS, ANSWERS, {0: (HEAD[:2], own)})[0]
    for part in (account.after - account.before, account.direct, account.heads, account.mlps):
        assert part.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("head", "shape", "message"),
    [
        ((1, 4), (3, 8), r"no L1H4: .* has 3 layers of 4 heads"),
        ((-1, 0), (3, 8), r"no L-1H0"),
        ((1, 2), (2, 8), r"replaces L1H2 must be \[prompt, d_head\] = \(3, 8\); got \(2, 8\)"),
    ],
)
def test_what_is_refused(model, head, shape, message):
    with pytest.raises(ValueError, match=message):
        account_for(model, TOKENS, ANSWERS, {"x": (head, torch.zeros(shape))})
