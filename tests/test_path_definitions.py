"""What "path patching" means in Wang et al., in TransformerLens and here: one implementation of each.

The direct path is computed in four ways (here for heads, here for edges, by TransformerLens, by plain
hooks), the one through MLPs in two.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformer_lens.patching import get_act_patch_direct_path

from helpers.edges.definitions import path_through_mlps
from helpers.edges.exact import edge_sweep
from helpers.edges.graph import Reader, Writer, writers
from helpers.logit_diff import LogitDiff
from helpers.path_patching import path_patch_sweep
from tests.edges_by_hooks import edge_by_hooks, through_mlps_by_hooks
from tests.tiny_models import tiny_gpt2, tiny_llama, tiny_odd

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])
SOURCE = torch.tensor([[0, 5, 10, 12, 5, 31], [0, 7, 8, 3, 41, 3]])
METRIC = LogitDiff(torch.tensor([[4, 8], [8, 4]]), per_prompt=True)  # a mean could cancel
MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama, "gptj": lambda: tiny_odd("gptj")}
RECEIVER = (2, 3)
# float32's sums in another order.
CLOSE = {"atol": 1e-4, "rtol": 0}
# What an effect, or the difference of two definitions, must reach on a prompt: ten times that.
NOTICED = 1e-3


def direct(model, sender: tuple[int, int], through: str) -> Tensor:
    return path_patch_sweep(model, BASE, SOURCE, RECEIVER, through, METRIC)[sender]


def through_mlps(model, sender: tuple[int, int], through: str, **how) -> Tensor:
    return path_through_mlps(model, BASE, SOURCE, sender, RECEIVER, through, METRIC, **how)


def differ(ours: Tensor, others: Tensor) -> bool:
    return bool((ours - others).abs().max() > NOTICED)


def without_mlps(model) -> None:
    for block in model.blocks:
        for parameter in block.mlp.parameters():
            parameter.zero_()


@pytest.mark.parametrize("sender", [(0, 1), (1, 2)])
@pytest.mark.parametrize("through", ["q", "k", "v"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_through_mlps_agrees_with_mlps_called_by_hand(name, through, sender):
    model, reader = MODELS[name](), Reader(*RECEIVER, through)
    ours = through_mlps(model, sender, through)
    expected = through_mlps_by_hooks(model, BASE, SOURCE, Writer(*sender), reader, METRIC)
    torch.testing.assert_close(ours, expected, **CLOSE)
    assert differ(ours, METRIC(model(BASE)[:, -1]))


@pytest.mark.parametrize(
    ("name", "through"), [("gpt2", "q"), ("gpt2", "k"), ("gpt2", "v"), ("llama", "q"), ("llama", "v")]
)
@torch.no_grad()
def test_direct_paths_are_one_definition(name, through):
    model, sender, reader = MODELS[name](), (0, 1), Reader(*RECEIVER, through)
    ours = direct(model, sender, through)
    [of_edges] = edge_sweep(model, BASE, SOURCE, [reader], METRIC)
    torch.testing.assert_close(of_edges[writers(model).index(Writer(*sender))], ours, **CLOSE)
    by_hooks = edge_by_hooks(model, BASE, SOURCE, Writer(*sender), reader, METRIC)
    torch.testing.assert_close(by_hooks, ours, **CLOSE)
    caches = [model.run_with_cache(tokens)[1] for tokens in (SOURCE, BASE)]

    def theirs() -> Tensor:
        measured = get_act_patch_direct_path(
            model,
            BASE,
            *caches,
            lambda logits: METRIC(logits[:, -1]).mean(),
            *sender,
            through,
            verbose=False,
        )
        return measured[RECEIVER]

    if name == "llama" and through == "v":  # a value that query heads share
        with pytest.raises(ValueError, match="GQA"):
            theirs()
    else:
        torch.testing.assert_close(theirs(), ours.mean(), **CLOSE)


@pytest.mark.parametrize("through", ["q", "k", "v"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@torch.no_grad()
def test_definitions_differ_by_what_mlps_between_pass_on(name, through):
    model = MODELS[name]()
    assert differ(through_mlps(model, (0, 1), through), direct(model, (0, 1), through))
    without_mlps(model)
    alike = direct(model, (0, 1), through)
    torch.testing.assert_close(through_mlps(model, (0, 1), through), alike, **CLOSE)
    assert differ(alike, METRIC(model(BASE)[:, -1]))


@torch.no_grad()
def test_beside_attention_an_mlp_of_the_senders_layer_hears_nothing():
    """GPT-J: no MLP lies between a head and one of the next layer; one does if a layer is skipped."""
    model = MODELS["gptj"]()
    torch.testing.assert_close(through_mlps(model, (1, 2), "v"), direct(model, (1, 2), "v"), **CLOSE)
    assert differ(through_mlps(model, (0, 2), "v"), direct(model, (0, 2), "v"))


@pytest.mark.parametrize("through", ["k", "v"])
@torch.no_grad()
def test_a_shared_input_can_change_for_all_that_read_it(through):
    model, reader = tiny_llama(), Reader(*RECEIVER, through)
    ours = through_mlps(model, (0, 1), through, for_its_group=True)
    expected = through_mlps_by_hooks(
        model, BASE, SOURCE, Writer(0, 1), reader, METRIC, for_its_group=True
    )
    torch.testing.assert_close(ours, expected, **CLOSE)
    assert differ(ours, through_mlps(model, (0, 1), through))


@torch.no_grad()
def test_a_key_of_its_own_is_its_groups():
    model = tiny_gpt2()
    alone, group = (through_mlps(model, (0, 1), "k", for_its_group=which) for which in (False, True))
    torch.testing.assert_close(alone, group, **CLOSE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sender": (2, 0)}, "sender in an earlier layer"),
        ({"sender": (0, 4)}, "heads must be some of 0 … 3"),
        ({"receiver": (3, 0)}, "layers must be some of 0 … 2"),
        ({"through": "z"}, "through 'z'"),
        ({"source_tokens": BASE}, "no position differs"),
    ],
)
def test_bad_input_is_named(change, says):
    arguments = {
        "source_tokens": SOURCE,
        "sender": (0, 1),
        "receiver": RECEIVER,
        "through": "q",
        **change,
    }
    with pytest.raises(ValueError, match=says):
        path_through_mlps(tiny_gpt2(), BASE, metric=METRIC, **arguments)
