"""patch_sweep against TransformerLens's own functions, one whole forward pass a site."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pandas as pd
import pytest
import torch
import transformer_lens.patching as tl_patching
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name

from helpers import patching, replay
from helpers.ioi.prompts import reference_prompts
from helpers.logit_diff import LogitDiff
from helpers.patching import patch_head_outputs, patch_sweep
from tests.architectures import SOURCE as ARCHITECTURE_SOURCE
from tests.architectures import TOKENS as ARCHITECTURE_TOKENS
from tests.architectures import tiny
from tests.patching_reference import TRANSFORMER_LENS_SWEEPS
from tests.tiny_models import VOCAB, tiny_gpt2, tiny_llama, tiny_odd

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"gpt2": tiny_gpt2, "llama": tiny_llama}
# batch, length, positions where source differs from base (in every prompt, or in prompt 0 only).
PROMPTS = {
    "first token": (2, 6, [0], []),
    "last token": (3, 5, [4], []),
    "several, unequally": (3, 6, [3, 4], [1]),
    "one prompt": (1, 5, [2], []),
    "one token": (2, 1, [0], []),
}


@pytest.fixture(scope="module", params=TINY)
def model(request: pytest.FixtureRequest) -> TransformerBridge:
    return TINY[request.param]()


def make_runs(case: str) -> tuple[Tensor, Tensor, LogitDiff]:
    batch, length, everywhere, in_prompt_0 = PROMPTS[case]
    generator = torch.Generator().manual_seed(length)
    base = torch.randint(1, VOCAB, (batch, length), generator=generator)
    source = base.clone()
    source[:, everywhere] = base[:, everywhere] % (VOCAB - 1) + 1
    source[0, in_prompt_0] = base[0, in_prompt_0] % (VOCAB - 1) + 1
    answers = torch.randint(1, VOCAB, (batch, 2), generator=generator)
    return base, source, LogitDiff(answers)


@pytest.fixture
def runs() -> tuple[Tensor, Tensor, LogitDiff]:
    return make_runs("several, unequally")


@torch.no_grad()  # With gradients on, TransformerLens patches resid_mid in the MLP's input only.
def by_transformer_lens(model, base, source, site, by_position, metric) -> Tensor:
    name, axes = TRANSFORMER_LENS_SWEEPS[site, by_position]
    _, cache = model.run_with_cache(source)
    sweep = getattr(tl_patching, f"get_act_patch_{name}")
    theirs = sweep(model, base, cache, lambda logits: metric(logits[:, -1]))
    return theirs.transpose(1, 2) if axes == ("position", "head") else theirs  # ours: head, position


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", PROMPTS)
@pytest.mark.parametrize(("site", "by_position"), TRANSFORMER_LENS_SWEEPS)
def test_agrees_with_transformer_lens_in_both_directions(model, site, by_position, case):
    base, source, metric = make_runs(case)
    for run, other in ((base, source), (source, base)):
        theirs = by_transformer_lens(model, run, other, site, by_position, metric)
        ours = patch_sweep(model, run, other, site, metric, by_position=by_position)
        assert_same(ours, theirs)


@pytest.mark.parametrize(("site", "by_position"), TRANSFORMER_LENS_SWEEPS)
def test_the_reference_would_notice(model, runs, site, by_position):
    """Each sweep moves the metric by much more than the tolerance."""
    base, source, metric = runs
    values = patch_sweep(model, base, source, site, metric, by_position=by_position)
    assert (values - metric(model(base)[:, -1])).abs().max() > 0.01


def test_the_residual_stream_carries_everything(model, runs):
    """What is left of the source run after a block is all there is of it above."""
    base, source, metric = runs
    pre, mid, post = (
        patch_sweep(model, base, source, f"resid_{part}", metric) for part in ("pre", "mid", "post")
    )
    assert_same(post[:-1], pre[1:])
    for last_block in (mid[-1], post[-1]):
        assert_same(last_block[-1], metric(model(source)[:, -1]))
        assert_same(last_block[:-1], metric(model(base)[:, -1]).expand(len(last_block) - 1))


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "z", "k"])
def test_all_positions_together(model, runs, site):
    """Not in transformer_lens.patching for block sites: compare with plain hooks."""
    base, source, metric = runs
    positions = [5, 2, 4]
    ours = patch_sweep(model, base, source, site, metric, positions=positions, by_position=False)
    _, cache = model.run_with_cache(source)
    for index in torch.cartesian_prod(*map(torch.arange, ours.shape)).reshape(-1, ours.ndim):
        layer, *head = index.tolist()
        name = get_act_name(site, layer)

        def patch(activation, hook, name=name, head=head):
            where = (slice(None), positions, *head)
            activation[where] = cache[name][where]
            return activation

        logits = model.run_with_hooks(base, fwd_hooks=[(name, patch)])
        assert_same(ours[tuple(index)], metric(logits[:, -1]))


@pytest.mark.parametrize(("site", "by_position"), [("resid_mid", True), ("z", True), ("q", False)])
def test_subsets_are_cut_from_the_whole(model, runs, site, by_position):
    base, source, metric = runs
    whole = patch_sweep(model, base, source, site, metric, by_position=by_position)
    layers, heads, positions = [2, 0], [3, 1], [-1, 0, 4]
    subset = {"layers": layers, "heads": None if site == "resid_mid" else heads}
    expected = whole[layers] if site == "resid_mid" else whole[layers][:, heads]
    if by_position:
        subset["positions"] = positions
        expected = expected[..., positions]
    ours = patch_sweep(model, base, source, site, metric, by_position=by_position, **subset)
    assert_same(ours, expected)


@pytest.mark.parametrize("chunk", [1, 4, 7, 1000])
@pytest.mark.parametrize("site", ["resid_pre", "pattern"])
def test_chunks_change_nothing(model, runs, site, chunk):
    whole = patch_sweep(model, *runs[:2], site, runs[2])
    assert_same(patch_sweep(model, *runs[:2], site, runs[2], chunk=chunk), whole)


def test_metrics_by_prompt_and_of_the_whole_vocabulary(model, runs):
    base, source, metric = runs
    mean = patch_sweep(model, base, source, "z", metric)
    per_prompt = patch_sweep(model, base, source, "z", LogitDiff(metric.answer_tokens, per_prompt=True))
    assert per_prompt.shape == (*mean.shape, len(base))
    assert_same(per_prompt.mean(-1), mean)
    assert_same(patch_sweep(model, base, source, "z", lambda logits: metric(logits)), mean)

    def log_prob(logits):
        return logits.log_softmax(-1)[:, 7]

    ours = patch_sweep(model, base, source, "resid_pre", log_prob)
    theirs = by_transformer_lens(
        model, base, source, "resid_pre", True, lambda logits: log_prob(logits).mean()
    )
    assert_same(ours.mean(-1), theirs)


@pytest.mark.parametrize("make", TINY.values())
def test_unprocessed_weights(make, runs):
    raw = make(compatible=False)
    for site in ("resid_mid", "v"):
        theirs = by_transformer_lens(raw, *runs[:2], site, site == "resid_mid", runs[2])
        assert_same(patch_sweep(raw, *runs[:2], site, runs[2]), theirs)


def test_tied_embeddings(runs):
    tied = tiny_llama(tied=True)
    theirs = by_transformer_lens(tied, *runs[:2], "resid_pre", True, runs[2])
    assert_same(patch_sweep(tied, *runs[:2], "resid_pre", runs[2]), theirs)


def nan_metric(logits: Tensor) -> Tensor:
    return logits.mean() * float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_tokens": torch.ones(3, 7, dtype=torch.int)}, "one shape"),
        ({"source_tokens": make_runs("several, unequally")[0]}, "no position differs"),
        ({"site": "resid"}, "must be one of"),
        ({"layers": [3]}, "layers must be some of"),
        ({"layers": []}, "layers must be some of"),
        ({"site": "z", "heads": [4]}, "heads must be some of"),
        ({"heads": [0]}, "has no heads"),
        ({"positions": [6]}, "positions must be some of"),
        ({"chunk": 0}, "chunk"),
        ({"metric": lambda logits: logits}, r"shape \(3, 61\)"),
        ({"metric": nan_metric}, "nan"),
        ({"metric": LogitDiff(torch.ones(2, 2, dtype=torch.int))}, "answer"),
    ],
)
def test_refuses_before_patching(model, runs, monkeypatch, change, message):
    monkeypatch.setattr(patching, "_plan", pytest.fail)
    base, source, metric = runs
    arguments = {"base_tokens": base, "source_tokens": source, "site": "mlp_out", "metric": metric}
    with pytest.raises(ValueError, match=message):
        patch_sweep(model, **{**arguments, **change})


def test_refuses_a_model_in_use(model, runs):
    with (
        model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", lambda resid, hook: None)]),
        pytest.raises(ValueError, match=r"hooks .*blocks\.0"),
    ):
        patch_sweep(model, *runs[:2], "z", runs[2])
    model.train()
    try:
        with pytest.raises(ValueError, match="training"):
            patch_sweep(model, *runs[:2], "z", runs[2])
    finally:
        model.eval()


def test_a_missing_site_is_named(model, runs, monkeypatch):
    monkeypatch.setattr(replay, "get_act_name", lambda site, layer: f"blocks.{layer}.no_{site}")
    with pytest.raises(ValueError, match=r"has no blocks\.0\.no_z"):
        patch_sweep(model, *runs[:2], "z", runs[2], layers=[0])


def after_unembedding(model: TransformerBridge, change: Callable[[Tensor], Tensor]) -> None:
    def changed(module, args, output):
        output.logits = change(output.logits)

    model.original_model.register_forward_hook(changed)


def test_refuses_a_model_it_does_not_repeat(runs):
    model = tiny_llama()
    after_unembedding(model, torch.relu)
    with pytest.raises(NotImplementedError, match="after unembedding"):
        patch_sweep(model, *runs[:2], "z", runs[2])


def test_a_model_that_multiplies_its_logits(runs):
    base, source, metric = runs
    plain = patch_sweep(tiny_llama(), base, source, "z", metric)
    model = tiny_llama()
    after_unembedding(model, lambda logits: logits / 2)
    for same in (metric, lambda logits: metric(logits)):  # unembedding the answers only, or all tokens
        assert_same(patch_sweep(model, base, source, "z", same), plain / 2)


@pytest.mark.parametrize("length", [4, 6])  # four heads: with four tokens, axes cannot be told by size
def test_refuses_values_that_lie_another_way(runs, length):
    """In DeepSeek's latent attention, heads come before positions there."""
    model = tiny("DeepseekV2ForCausalLM").model
    base, source = (tokens[:, :length] for tokens in (ARCHITECTURE_TOKENS, ARCHITECTURE_SOURCE))
    metric = LogitDiff(torch.tensor([[4, 8], [8, 4]]))
    with pytest.raises(NotImplementedError, match=r"not keep \[batch, position, head, …\] at 'v'"):
        patch_sweep(model, base, source, "v", metric)
    assert patch_sweep(model, base, source, "z", metric).shape == (2, 4)


CANNOT = {
    ("bloom", "resid_pre"): "at any site .* batch that grows",
    ("bloom", "z"): "at any site .* batch that grows",
    ("opt", "resid_mid"): "at 'resid_mid' .* batch that grows",
    ("opt", "mlp_out"): "at 'mlp_out' .* batch that grows",
    ("opt", "pattern"): "at 'pattern': a patch there has no effect",
    ("gptj", "pattern"): "at 'pattern': a patch there has no effect",
}


@pytest.mark.parametrize(("model_type", "site"), CANNOT)
def test_refuses_a_site_that_the_model_does_not_let_be_patched(runs, monkeypatch, model_type, site):
    model = tiny_odd(model_type)
    monkeypatch.setattr(patching, "_plan", pytest.fail)
    with pytest.raises(NotImplementedError, match=f"^tiny .*{CANNOT[model_type, site]}"):
        patch_sweep(model, *runs[:2], site, runs[2])


@pytest.mark.parametrize(
    ("model_type", "site"),
    [
        *((kind, site) for kind in ("opt", "gptj") for site in ("resid_pre", "attn_out", "z", "q")),
        *(("gemma2", site) for site in ("resid_mid", "attn_out", "z", "pattern")),
    ],
)
def test_agrees_where_such_models_can_be_patched(runs, model_type, site):
    model, by_position = tiny_odd(model_type), site in patching.BLOCK_SITES
    theirs = by_transformer_lens(model, *runs[:2], site, by_position, runs[2])
    assert_same(patch_sweep(model, *runs[:2], site, runs[2]), theirs)


def test_a_head_that_writes_nothing_can_be_patched(runs):
    """Not to be taken for a site without effect."""
    model = tiny_gpt2()
    model.blocks[0].attn.o.weight.data[:8] = 0
    values = patch_sweep(model, *runs[:2], "z", runs[2], layers=[0])
    assert_same(values[0, 0], runs[2](model(runs[0])[:, -1]))
    assert (values[0, 1:] - values[0, 0]).abs().min() > 1e-3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_leaves_the_model_as_it_was(model, runs, error):
    base, source, metric = runs
    before = model(base)
    weights = {name: weight.clone() for name, weight in model.original_model.state_dict().items()}
    calls = []

    def fails_later(logits):
        calls.append(logits)
        if len(calls) > 2:
            raise error
        return metric(logits)

    with pytest.raises(error):
        patch_sweep(model, base, source, "resid_pre", fails_later)
    patch_sweep(model, base, source, "resid_pre", metric)
    assert not any(point.has_hooks() for point in model.hook_dict.values())
    assert torch.equal(model(base), before)
    after = model.original_model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())


def test_needs_no_gradients(model, runs):
    assert torch.is_grad_enabled()
    assert not patch_sweep(model, *runs[:2], "z", runs[2]).requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("progress", [True, False, None])
def test_progress_goes_to_stderr_when_asked(model, runs, capsys, monkeypatch, progress):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    patch_sweep(model, *runs[:2], "z", runs[2], progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("patching z" in err) == bool(progress)


def test_positions_before_the_first_difference_are_free(model, monkeypatch):
    base, source, metric = make_runs("last token")
    passes = []
    forward = replay.forward
    for module in (replay, patching):
        monkeypatch.setattr(module, "forward", lambda *a: passes.append(a) or forward(*a))
    values = patch_sweep(model, base, source, "mlp_out", metric, positions=[0, 3])
    assert len(passes) == 4  # base, its replay, the same at the site, source
    assert_same(values, metric(model(base)[:, -1]).expand_as(values))


def test_head_outputs_from_the_source_run_are_the_sweep_of_z(model, runs):
    base, source, metric = runs
    _, cache = model.run_with_cache(source)
    heads = [(2, 1), (0, 3), (2, 1)]
    outputs = [cache["z", layer][:, :, head] for layer, head in heads]
    sweep = patch_sweep(model, base, source, "z", metric)
    ours = patch_head_outputs(model, base, heads, outputs, metric)
    assert_same(ours, torch.stack([sweep[head] for head in heads]))
    later = patch_head_outputs(model, base, heads, outputs, metric, positions=[4, 3])
    assert_same(
        later,
        torch.stack([patch_sweep(model, base, source, "z", metric, positions=[3, 4])[h] for h in heads]),
    )
    with pytest.raises(ValueError, match="L0H3"):
        patch_head_outputs(model, base, [(0, 3)], [outputs[1][:1]], metric)
    with pytest.raises(ValueError, match="layers must be some of"):
        patch_head_outputs(model, base, [(3, 0)], outputs[:1], metric)


@pytest.mark.smollm2
@pytest.mark.parametrize(
    ("site", "by_position", "layers", "positions"),
    [
        ("resid_pre", True, [1, 23], [2, 10, 12, 14]),
        ("attn_out", True, [23], [10, 14]),
        ("mlp_out", True, [0, 28], [10, 14]),
        ("z", False, [23], None),
        ("pattern", False, [23], None),
        ("v", False, [17], None),
    ],
)
def test_agrees_on_smollm2(smollm2, site, by_position, layers, positions):
    """A sample of the demo's sweeps; the benchmark samples all, and compares every value with --all."""
    model, prompts = smollm2, reference_prompts(smollm2)
    metric = LogitDiff(prompts.answer_tokens)
    runs = prompts.corrupted_tokens, prompts.tokens
    whole = patch_sweep(
        model, *runs, site, metric, by_position=by_position, layers=layers, positions=positions
    )
    columns = positions if by_position else range(whole.shape[1])
    sites = pd.DataFrame(product(layers, columns), columns=["layer", "column"])
    theirs = getattr(tl_patching, f"get_act_patch_{TRANSFORMER_LENS_SWEEPS[site, by_position][0]}")
    _, cache = model.run_with_cache(prompts.tokens)
    with torch.no_grad():
        values = theirs(model, runs[0], cache, metric, index_axis_names=None, index_df=sites)
    assert_same(whole.flatten(), values)


@pytest.mark.cuda
@pytest.mark.usefixtures("exact_float32")
@pytest.mark.parametrize("make", TINY.values())
@pytest.mark.parametrize(("site", "by_position"), TRANSFORMER_LENS_SWEEPS)
def test_on_cuda(make, runs, site, by_position):
    base, source, metric = runs
    on_cpu = patch_sweep(make(), base, source, site, metric, by_position=by_position)
    model = make().to("cuda")
    on_cuda = patch_sweep(model, base, source, site, metric, by_position=by_position)
    assert on_cuda.device.type == "cuda"
    assert_same(on_cuda.cpu(), on_cpu)
