"""Groups of answers, against sums of probabilities and TransformerLens's own attribution."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.accounts import account_for, head_attribution
from helpers.answers import GroupDiff, answer_tensor, checked_combine, metric_of
from helpers.circuit import gate_attribution, gated_logit_diff, mean_outputs
from helpers.logit_diff import LogitDiff, residual_stack_to_logit_diff
from helpers.patching import patch_sweep
from tests.tiny_models import tiny_gpt2, tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

RIGHT = [[10], [11, 12, 13], [20, 21]]
WRONG = [[30, 31], [32], [33, 34, 35, 36]]
GROUPS = answer_tensor(RIGHT, WRONG)
TOKENS = torch.tensor([[0, 5, 10, 6, 11, 7], [0, 5, 11, 6, 10, 7], [0, 1, 2, 3, 4, 5]])
CORRUPTED = torch.tensor([[0, 5, 10, 6, 12, 7], [0, 5, 11, 6, 13, 7], [0, 1, 2, 3, 6, 5]])
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
WAYS = ["summed probability", "mean logit"]


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama])
def model(request):
    with torch.no_grad():
        yield request.param()


def one_by_one(logits: torch.Tensor, combine: str) -> list[float]:
    """From the probabilities of the whole vocabulary, in Python."""
    values = []
    for row, right, wrong in zip(logits.double(), RIGHT, WRONG, strict=True):
        if combine == "summed probability":
            total = sum(math.exp(logit) for logit in row.tolist())
            sides = [sum(math.exp(row[token]) / total for token in side) for side in (right, wrong)]
            values.append(math.log(sides[0]) - math.log(sides[1]))
        else:
            sides = [sum(row[token].item() for token in side) / len(side) for side in (right, wrong)]
            values.append(sides[0] - sides[1])
    return values


@pytest.mark.parametrize("combine", WAYS)
def test_against_the_whole_vocabulary(combine):
    logits = torch.randn(3, 61, generator=torch.Generator().manual_seed(0)) * 4
    metric = GroupDiff(GROUPS, combine, per_prompt=True)
    expected = torch.tensor(one_by_one(logits, combine))
    torch.testing.assert_close(metric(logits), expected, **CLOSE)
    torch.testing.assert_close(GroupDiff(GROUPS, combine)(logits), expected.mean(), **CLOSE)


def test_summed_probability_of_logits_that_overflow():
    logits = torch.full((3, 61), 900.0)
    values = GroupDiff(GROUPS, "summed probability", per_prompt=True)(logits)
    expected = torch.tensor([math.log(1 / 2), math.log(3), math.log(2 / 4)])
    torch.testing.assert_close(values, expected, **CLOSE)


@pytest.mark.parametrize("combine", WAYS)
def test_single_answers_are_the_logit_difference(combine):
    pairs = torch.tensor([[10, 11], [12, 13], [14, 15]])
    logits = torch.randn(3, 61, generator=torch.Generator().manual_seed(0))
    expected = LogitDiff(pairs, per_prompt=True)(logits)
    ours = GroupDiff(pairs[..., None], combine, per_prompt=True)(logits)
    torch.testing.assert_close(ours, expected, **CLOSE)


@pytest.mark.parametrize("combine", WAYS)
@pytest.mark.parametrize("per_prompt", [True, False])
def test_a_sweep_unembeds_the_answers_only(model, combine, per_prompt):
    """The same numbers as from all logits, which a plain function makes the sweep compute."""
    metric = GroupDiff(GROUPS, combine, per_prompt)
    ours = patch_sweep(model, CORRUPTED, TOKENS, "z", metric)
    whole = patch_sweep(model, CORRUPTED, TOKENS, "z", lambda logits: metric(logits))
    assert ours.shape == (3, 4, 3)[: 2 + per_prompt]
    torch.testing.assert_close(ours, whole, **CLOSE)


def test_attribution_is_the_mean_over_pairs_of_answers(model):
    """TransformerLens's ``logit_attrs`` of every right answer with every wrong one."""
    metric = GroupDiff(GROUPS, "mean logit", per_prompt=True)
    ours = head_attribution(model, TOKENS, metric)
    _, cache = model.run_with_cache(TOKENS)
    stack = cache.stack_head_results(pos_slice=-1, incl_remainder=False)
    for row, (right, wrong) in enumerate(zip(RIGHT, WRONG, strict=True)):
        pairs = [
            cache.logit_attrs(
                stack,
                tokens=torch.full((3,), a),
                incorrect_tokens=torch.full((3,), b),
                pos_slice=-1,
            )[:, row]
            for a in right
            for b in wrong
        ]
        expected = torch.stack(pairs).mean(0).view(model.cfg.n_layers, model.cfg.n_heads)
        torch.testing.assert_close(ours[..., row], expected, **CLOSE)


def test_parts_sum_to_the_metric(model):
    metric = GroupDiff(GROUPS, "mean logit", per_prompt=True)
    logits, cache = model.run_with_cache(TOKENS)
    parts = residual_stack_to_logit_diff(
        cache.decompose_resid(layer=-1, pos_slice=-1), cache, metric.directions(model), per_prompt=True
    )
    bias = torch.stack(
        [
            model.b_U[right].mean() - model.b_U[wrong].mean()
            for right, wrong in zip(RIGHT, WRONG, strict=True)
        ]
    )
    torch.testing.assert_close(parts.sum(0) + bias, metric(logits[:, -1]), **CLOSE)


def test_attribution_by_directions_is_refused_for_summed_probability(model):
    metric = GroupDiff(GROUPS, "summed probability")
    for refused in (
        lambda: metric.directions(model),
        lambda: head_attribution(model, TOKENS, metric),
        lambda: account_for(model, TOKENS, metric, {0: ((1, 2), torch.zeros(3, model.cfg.d_head))}),
    ):
        with pytest.raises(ValueError, match=r'not linear .*combine="mean logit"'):
            refused()


def test_an_account_of_averaged_logits_adds_up(model):
    metric = GroupDiff(GROUPS, "mean logit")
    replaced = torch.zeros(len(TOKENS), model.cfg.d_head)
    account = account_for(model, TOKENS, metric, {"x": ((1, 2), replaced)}, batch=2)["x"]
    torch.testing.assert_close(account.parts, account.after - account.before, **CLOSE)
    expected = metric_of(metric)(model(TOKENS)[:, -1])
    torch.testing.assert_close(account.before, expected, **CLOSE)


@pytest.mark.parametrize("combine", WAYS)
def test_gates(model, combine):
    """All open is the model; and what gates contribute sums to open minus shut."""
    metric = GroupDiff(GROUPS, combine)
    shape = (model.cfg.n_layers, *TOKENS.shape, model.cfg.n_heads)
    means = mean_outputs(model, CORRUPTED, torch.zeros(3, dtype=torch.long))[:, [0, 0, 0]]
    opened, shut = (
        gated_logit_diff(model, TOKENS, metric, torch.full(shape, value), means) for value in (1.0, 0.0)
    )
    torch.testing.assert_close(opened, metric_of(metric)(model(TOKENS)[:, -1]), **CLOSE)
    parts = gate_attribution(model, TOKENS, metric, means, steps=64)
    off = (parts.sum((0, 2, 3)) - (opened - shut)).abs().max()
    assert off < 0.01 * (opened - shut).abs().max()


def test_pairs_stay_pairs_and_need_no_way_to_combine():
    pairs = answer_tensor([[1], [2]], [[3], [4]])
    assert pairs.tolist() == [[1, 3], [2, 4]]
    assert checked_combine("mean logit", pairs) is None
    assert answer_tensor([[1], [2]], [[3], [4, 5]]).tolist() == [[[1, -1], [3, -1]], [[2, -1], [4, 5]]]


@pytest.mark.parametrize(
    ("refused", "error", "message"),
    [
        (
            lambda: checked_combine(None, GROUPS),
            ValueError,
            'combine="summed probability".*"mean logit"',
        ),
        (lambda: checked_combine("sum", GROUPS), ValueError, "combine must be one of .*'sum'"),
        (lambda: GroupDiff(GROUPS[:, 0], "mean logit"), ValueError, r"got \(3, 4\)"),
        (
            lambda: GroupDiff(torch.tensor([[[1, 2], [-1, -1]]]), "mean logit"),
            ValueError,
            "group is empty",
        ),
        (lambda: metric_of(lambda logits: logits), TypeError, "metric.. gives; got function"),
        (
            lambda: patch_sweep(
                tiny_gpt2(), CORRUPTED, TOKENS, "z", GroupDiff(GROUPS[:2], "mean logit")
            ),
            ValueError,
            r"\(2, 2, 4\) for 3 prompts",
        ),
    ],
)
def test_refusals(refused, error, message):
    with pytest.raises(error, match=message):
        refused()
