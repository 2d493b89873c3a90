"""IOI prompts: what they hold, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from helpers.ioi.prompts import ioi_prompts, reference_prompts
from helpers.ioi.record import published
from helpers.logit_diff import LogitDiff, logit_diff
from tests.tiny_models import tiny_gpt2

TEMPLATES = ["w1 w10 w2 w11 w3{} w4", "w5 w12 w2 w13 w3{} w6"]
NAMES = [(" w10", " w11"), (" w12", " w13")]


@pytest.fixture(scope="module")
def model():
    return tiny_gpt2()


def test_each_template_gives_both_roles_to_both_names(model):
    prompts = ioi_prompts(model, TEMPLATES, NAMES)
    assert len(prompts) == 4
    assert prompts.tokens.tolist()[:2] == [[0, 1, 10, 2, 11, 3, 11, 4], [0, 1, 10, 2, 11, 3, 10, 4]]
    assert prompts.answer_tokens.tolist() == [[10, 11], [11, 10], [12, 13], [13, 12]]
    assert prompts.corrupted_tokens.tolist() == [prompts.tokens.tolist()[i] for i in (1, 0, 3, 2)]
    assert prompts.changed_positions == [6]
    assert prompts.position_labels[:2] == ["<bos>_0", "w1_1"]


def test_positions(model):
    positions = ioi_prompts(model, TEMPLATES, NAMES).positions
    assert {name: p.tolist() for name, p in positions.items()} == {
        "IO": [2, 4, 2, 4],
        "S1": [4, 2, 4, 2],
        "S2": [6, 6, 6, 6],
        "end": [7, 7, 7, 7],
    }


@pytest.mark.parametrize(
    ("templates", "names", "message"),
    [
        ([], [], "at least one template"),
        (TEMPLATES, NAMES[:1], "2 templates and 1 pairs"),
        (["w1 w10 w11 w3"], NAMES[:1], "exactly one {}"),
        (["w1 w10 w14 w15 w3{}"], [(" w10", " w14 w15")], "' w14 w15' is 2 tokens"),
        ([TEMPLATES[0], TEMPLATES[1] + " w7"], NAMES, "equal length"),
        (["w1 w10 w2{} w3"], NAMES[:1], "found 1 and 1 times"),
    ],
)
def test_refusals_name_the_offender(model, templates, names, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("}", r"\}")):
        ioi_prompts(model, templates, names)


@pytest.mark.smollm2
def test_reference_prompts_on_the_embedded_model(smollm2):
    """Facts measured before this project existed: length, logit difference, corrupted = -clean."""
    model = smollm2
    prompts = reference_prompts(model)
    assert prompts.tokens.shape == (8, published()["prompts"]["tokens_per_prompt"])
    assert [model.to_string(row[-1]) for row in prompts.tokens] == [" to"] * 8
    with torch.no_grad():
        clean, corrupted = model(prompts.tokens), model(prompts.corrupted_tokens)
    # Known to three decimals, so half of the last one.
    assert logit_diff(clean, prompts.answer_tokens).item() == pytest.approx(4.724, abs=5e-4)
    assert LogitDiff(prompts.answer_tokens)(corrupted[:, -1]).item() == pytest.approx(-4.724, abs=5e-4)
    with pytest.raises(ValueError, match="Bartholomew"):
        ioi_prompts(
            model,
            ["When Bartholomew and Mary went to the shops,{} gave the bag to"],
            [(" Mary", " Bartholomew")],
        )


def test_prompts_are_the_published_ones():
    from helpers.ioi import prompts

    assert list(prompts.REFERENCE_TEMPLATES) == published()["prompts"]["template"]
    assert [list(pair) for pair in prompts.REFERENCE_NAMES] == published()["prompts"]["names"]
