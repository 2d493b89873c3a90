"""attribution_sweep against finite differences, TransformerLens's own, and the exact sweep."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformer_lens.tools.analysis import attribution_patch
from transformer_lens.utilities import get_act_name

from helpers.answers import GroupDiff
from helpers.attribution import agreement, attribution_sweep
from helpers.logit_diff import LogitDiff
from helpers.patching import BLOCK_SITES, HEAD_SITES, patch_sweep
from tests.tiny_models import bridge, tiny_gpt2, tiny_gpt2_hf, tiny_llama, tiny_llama_hf, tiny_odd

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])
SOURCE = torch.tensor([[0, 5, 10, 12, 5, 30], [0, 7, 8, 3, 41, 2]])
ANSWERS = torch.tensor([[4, 8], [8, 4]])
METRIC = LogitDiff(ANSWERS)
MAKERS = {"gpt2": tiny_gpt2_hf, "llama": tiny_llama_hf}
# Step of a central difference, and what it may be off by: the square of the step; and rounding, of
# float64 or of float32, in which transformers computes Llama's norms and softmax in any model, over it.
STEPS = {"gpt2": (1e-5, 1e-7), "llama": (1e-2, 1e-3)}


def in_double(name: str):
    return bridge(MAKERS[name]().double())


def steps_towards(model, site: str, share: float, layer: int, head: int | None) -> Tensor:
    """Metric of the base run with one activation a share of the way to the source run's: plain hooks."""
    name = get_act_name(site, layer)
    _, base = model.run_with_cache(BASE, names_filter=name)
    _, source = model.run_with_cache(SOURCE, names_filter=name)
    target = base[name] + share * (source[name] - base[name])

    def put(activation, hook):
        """In place: a block adds what it was given to the stream, not what a hook returns."""
        where = slice(None)
        if head is not None:
            where = (slice(None), head) if site == "pattern" else (slice(None), slice(None), head)
        activation[where] = target[where]
        return activation

    return METRIC(model.run_with_hooks(BASE, fwd_hooks=[(name, put)])[:, -1])


@pytest.mark.parametrize("site", [*BLOCK_SITES, *HEAD_SITES])
@pytest.mark.parametrize("shape", MAKERS)
@torch.no_grad()
def test_is_the_slope_of_the_patch(shape, site):
    """A small step's effect, over the step: central differences in float64."""
    (small, allowed), model, layer = STEPS[shape], in_double(shape), 1
    head = 1 if site in HEAD_SITES else None
    rises = [steps_towards(model, site, sign * small, layer, head) for sign in (1, -1)]
    slope = (rises[0] - rises[1]) / (2 * small)
    found = attribution_sweep(model, BASE, SOURCE, site, METRIC, by_position=False)[layer]
    effect = (found if head is None else found[head]) - METRIC(model(BASE)[:, -1])
    torch.testing.assert_close(effect, slope, atol=allowed, rtol=allowed)
    assert abs(slope) > 10 * allowed, "the comparison would notice"


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_agrees_with_transformer_lens(make_model):
    """Which scores heads and MLPs at each position, one pair of prompts at a time."""
    model, metric = make_model(), LogitDiff(ANSWERS[:1])
    clean, corrupted = SOURCE[:1], BASE[:1]
    theirs = attribution_patch(model, clean, corrupted, lambda logits: metric(logits[:, -1]))
    unpatched = metric(model(corrupted)[:, -1])
    heads = attribution_sweep(model, corrupted, clean, "z", metric, by_position=True) - unpatched
    mlps = attribution_sweep(model, corrupted, clean, "mlp_out", metric) - unpatched
    compared = 0
    for node, score in theirs.node_scores.items():
        if node.kind == "attn_head_out":
            ours = heads[node.layer, node.head, node.position]
        elif node.kind == "mlp_out":
            ours = mlps[node.layer, node.position]
        else:
            continue
        assert ours.item() == pytest.approx(score, abs=1e-4)
        compared += 1
    assert compared == 3 * 5 * 6


@pytest.mark.parametrize("site", [*BLOCK_SITES, *HEAD_SITES])
@pytest.mark.parametrize("by_position", [False, True])
def test_has_the_exact_sweeps_shape_and_unpatched_value(site, by_position):
    model, metric = tiny_llama(), LogitDiff(ANSWERS, per_prompt=True)
    exact = patch_sweep(model, BASE, SOURCE, site, metric, by_position=by_position)
    ours = attribution_sweep(model, BASE, SOURCE, site, metric, by_position=by_position)
    assert ours.shape == exact.shape
    if by_position:  # nothing differs before the first difference
        before = ours.movedim(-2, 0)[0]
        assert (before == metric(model(BASE)[:, -1])).all()


def test_layers_are_chosen_in_the_order_wanted():
    model = tiny_gpt2()
    some = attribution_sweep(model, BASE, SOURCE, "z", METRIC, layers=[2, 0])
    every = attribution_sweep(model, BASE, SOURCE, "z", METRIC)
    torch.testing.assert_close(some, every[[2, 0]])


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_steps_sum_to_the_difference_between_the_runs(make_model):
    """On the way between the embeddings, the whole stream's estimate is the integral of a derivative."""
    model = make_model()
    base, source = (METRIC(model(tokens)[:, -1]) for tokens in (BASE, SOURCE))
    errors = []
    for steps in (1, 8, 64):
        found = attribution_sweep(
            model, BASE, SOURCE, "resid_pre", METRIC, by_position=False, steps=steps
        )
        errors.append(abs(found[0] - source).item())
    assert errors[-1] < 0.01 * abs(source - base)  # midpoints: the error falls with the square of steps
    assert errors[-1] < errors[0]


def test_groups_of_answers_have_gradients_too():
    model = tiny_gpt2()
    groups = GroupDiff(
        torch.tensor([[[4, 5], [8, 9]], [[8, 9], [4, 5]]]), "summed probability", per_prompt=True
    )
    assert attribution_sweep(model, BASE, SOURCE, "z", groups).shape == (3, 4, 2)


def test_leaves_the_model_and_grad_mode_as_they_were():
    model = tiny_gpt2()
    with torch.no_grad():
        attribution_sweep(model, BASE, SOURCE, "z", METRIC)
        assert not torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(point.has_hooks() for point in model.hook_dict.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"site": "head"}, "site must be one of .*'head'"),
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"layers": [3]}, "3"),
    ],
)
def test_bad_input_is_named(change, says):
    arguments = {"site": "z", **change}
    with pytest.raises(ValueError, match=says):
        attribution_sweep(tiny_gpt2(), BASE, SOURCE, metric=METRIC, **arguments)


def test_what_the_exact_sweep_refuses_is_refused():
    model = tiny_odd("bloom")
    with pytest.raises(NotImplementedError) as exact:
        patch_sweep(model, BASE, SOURCE, "z", METRIC)
    with pytest.raises(NotImplementedError) as ours:
        attribution_sweep(model, BASE, SOURCE, "z", METRIC)
    assert str(ours.value) == str(exact.value)


# --- agreement ------------------------------------------------------------------------------------


def test_agreement_by_closed_form():
    exact, estimated = torch.tensor([4.0, -3.0, 2.0, 1.0]), torch.tensor([[4.0, -1.0], [2.0, 3.0]])
    found = agreement(exact.reshape(2, 2), estimated, top=2)
    # Ranks 4 1 3 2 and 4 1 2 3: one minus six times the squared differences over n(n² - 1).
    assert found.rank == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found.kept == 1  # the first; of the estimates the last is second
    assert found.error == pytest.approx((0 + 2 + 0 + 2) / (4 + 3 + 2 + 1))


@pytest.mark.parametrize(
    ("exact", "estimated", "says"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "as many estimates"),
        ([1.0, 2.0], [1.0, 2.0], "at least 3"),
        ([1.0, 2.0, float("nan")], [1.0, 2.0, 3.0], "NaN or infinity"),
        ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], "All effects are 0"),
        ([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], "all estimates 5"),
    ],
)
def test_no_agreement_is_made_up(exact, estimated, says):
    with pytest.raises(ValueError, match=says):
        agreement(torch.tensor(exact), torch.tensor(estimated), top=3)
