"""Heads behind gates, against plain hooks, finite differences and sums that must come out."""

from __future__ import annotations

import pytest
import torch

from helpers.circuit import (
    Node,
    gate_attribution,
    gated_logit_diff,
    gated_logit_diffs,
    gates_at,
    mean_outputs,
)
from helpers.ioi.dataset import sample_ioi
from helpers.logit_diff import logit_diff
from tests.test_ioi_dataset import WORDS
from tests.tiny_models import tiny_gpt2, tiny_llama


@pytest.fixture(autouse=True)
def no_gradients(one_thread):
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama])
def model(request):
    return request.param()


@pytest.fixture(scope="module")
def sample(model):
    return sample_ioi(model, 40, seed=0, words=WORDS)


@pytest.fixture(scope="module")
def group_means(model, sample):
    return mean_outputs(model, sample.random_names, sample.frame)


@pytest.fixture(scope="module")
def means(sample, group_means):
    return group_means[:, sample.frame]


def gates_of(model, sample, value: float) -> torch.Tensor:
    return torch.full((model.cfg.n_layers, *sample.tokens.shape, model.cfg.n_heads), value)


def run(model, sample, gates, means) -> torch.Tensor:
    return gated_logit_diff(model, sample.tokens, sample.answer_tokens, gates, means)


def by_plain_hooks(model, sample, shut: dict[int, torch.Tensor], means) -> torch.Tensor:
    """The oracle: TransformerLens's hooks replace outputs where ``shut[layer][prompt, pos, head]``."""

    def replace(z, hook):
        return torch.where(shut[hook.layer()][..., None], means[hook.layer()], z)

    hooks = [(f"blocks.{layer}.attn.hook_z", replace) for layer in shut]
    logits = model.run_with_hooks(sample.tokens, fwd_hooks=hooks)
    return logit_diff(logits, sample.answer_tokens, per_prompt=True)


# Sums of a few hundred float32 products, in another order; values of order one to ten.
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def test_means_are_by_group_and_position(model, sample, group_means):
    _, cache = model.run_with_cache(sample.random_names)
    assert group_means.shape[1] == 2
    for layer in range(model.cfg.n_layers):
        for group in range(2):
            rows = sample.frame == group
            torch.testing.assert_close(
                group_means[layer, group], cache["z", layer][rows].mean(0), **CLOSE
            )


def test_all_open_is_the_model_itself(model, sample, means):
    expected = logit_diff(model(sample.tokens), sample.answer_tokens, per_prompt=True)
    torch.testing.assert_close(
        run(model, sample, gates_of(model, sample, 1.0), means), expected, **CLOSE
    )


def test_shut_gates_put_the_mean_in_place(model, sample, means):
    generator = torch.Generator().manual_seed(1)
    shape = (model.cfg.n_layers, *sample.tokens.shape, model.cfg.n_heads)
    for share in (0.3, 1.0):
        shut = torch.rand(shape, generator=generator) < share
        expected = by_plain_hooks(model, sample, dict(enumerate(shut)), means)
        measured = run(model, sample, (~shut).float(), means)
        torch.testing.assert_close(measured, expected, **CLOSE)
        whole = logit_diff(model(sample.tokens), sample.answer_tokens, per_prompt=True)
        assert (measured - whole).abs().max() > 0.1, "the ablation does something"


def test_with_all_shut_names_differ_by_nothing_but_embeddings(model, sample, means):
    """Attention moves nothing about the names: the answer cannot depend on who was repeated."""
    shut = gates_of(model, sample, 0.0)
    swapped = gated_logit_diff(model, sample.swapped_subject, sample.answer_tokens, shut, means)
    torch.testing.assert_close(run(model, sample, shut, means), swapped, **CLOSE)


def test_several_settings_are_each_as_if_alone(model, sample, means, monkeypatch):
    """Wherever they part from the first one, in whatever order, and in more than one batch."""
    monkeypatch.setattr("helpers.circuit.ROWS_AT_ONCE_UNGRADED", 100)
    first = gates_of(model, sample, 1.0)
    settings = [first]
    for layer in (model.cfg.n_layers - 1, 0, 1, 0):
        settings.append(first.clone())
        settings[-1][layer, :, :, len(settings) % 2] = 0.0
    settings += [first.clone(), gates_of(model, sample, 0.0)]
    together = gated_logit_diffs(model, sample.tokens, sample.answer_tokens, settings, means)
    assert together.shape == (7, len(sample))
    for gates, measured in zip(settings, together, strict=True):
        shut = dict(enumerate(gates == 0))
        torch.testing.assert_close(measured, by_plain_hooks(model, sample, shut, means), **CLOSE)
    assert (together[1:5] - together[0]).abs().amax(1).min() > 0.01, "each setting does something"


def test_gates_at_opens_nothing_else(model, sample):
    length = sample.tokens.shape[1]
    nodes = [Node(0, 1, "S2"), Node(2, 3, "end")]
    gates = gates_at(model, nodes, sample.positions, length)
    assert gates.shape == gates_of(model, sample, 0.0).shape
    opened = {tuple(index) for index in gates.nonzero().tolist()}
    assert opened == {
        (node.layer, row, int(sample.positions[node.where][row]), node.head)
        for node in nodes
        for row in range(len(sample))
    }
    with pytest.raises(KeyError, match="S3"):
        gates_at(model, [Node(0, 0, "S3")], sample.positions, length)


def test_contributions_sum_to_open_minus_shut(model, sample, means):
    """For each prompt. The midpoint sum's error falls with the square of the number of steps."""
    expected = run(model, sample, gates_of(model, sample, 1.0), means)
    expected = expected - run(model, sample, gates_of(model, sample, 0.0), means)
    errors = []
    for steps in (4, 64):
        found = gate_attribution(model, sample.tokens, sample.answer_tokens, means, steps=steps)
        errors.append(float((found.sum((0, 2, 3)) - expected).abs().max()))
    assert errors[1] < 0.01 * float(expected.abs().max())
    assert errors[1] < errors[0]


def test_one_step_is_the_gradient_half_way(model, sample, means):
    """Against central differences. In float32 these keep two to three digits at this step."""
    found = gate_attribution(model, sample.tokens, sample.answer_tokens, means, steps=1)
    half = gates_of(model, sample, 0.5)
    step = 0.05
    last = sample.tokens.shape[1] - 1
    for layer, pos, head in [(0, 3, 0), (1, last, 2), (model.cfg.n_layers - 1, last, 1)]:
        up, down = half.clone(), half.clone()
        up[layer, :, pos, head] += step
        down[layer, :, pos, head] -= step
        expected = (run(model, sample, up, means) - run(model, sample, down, means)) / (2 * step)
        torch.testing.assert_close(found[layer, :, pos, head], expected, atol=5e-3, rtol=2e-2)


def test_more_rows_than_run_at_once_are_each_on_their_own(model, sample, means):
    """40 prompts are more than one batch; a prompt's contributions do not depend on the others."""
    rows = [39, 0]
    part = sample.select(rows)
    whole = gate_attribution(model, sample.tokens, sample.answer_tokens, means, steps=2)
    alone = gate_attribution(model, part.tokens, part.answer_tokens, means[:, rows], steps=2)
    torch.testing.assert_close(whole[:, rows], alone, **CLOSE)


def test_no_hooks_are_left(model, sample, means):
    gate_attribution(model, sample.tokens, sample.answer_tokens, means, steps=1)
    assert not any(point.has_hooks() for point in model.hook_dict.values())
    assert not torch.is_grad_enabled()


def test_refusals(model, sample, means):
    with pytest.raises(ValueError, match=r"no empty group; got 40 prompts|prompts with"):
        mean_outputs(model, sample.tokens, 2 * sample.frame)
    with pytest.raises(ValueError, match="group for each of 40"):
        mean_outputs(model, sample.tokens, sample.frame[:5])
    with pytest.raises(ValueError, match=r"Expected gates \[layer, batch, pos, head\]"):
        run(model, sample, gates_of(model, sample, 1.0)[:, :5], means)
    with pytest.raises(ValueError, match="Expected gates"):
        run(model, sample, gates_of(model, sample, 1.0), means[:, :, :3])
    with pytest.raises(ValueError, match="got no gates"):
        gated_logit_diffs(model, sample.tokens, sample.answer_tokens, [], means)
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        gate_attribution(model, sample.tokens, sample.answer_tokens, means, steps=0)
