"""Running the last token alone, against whole runs."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.utilities import get_act_name

from helpers.last_token import LastToken
from tests.tiny_models import tiny_gpt2, tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = torch.tensor(
    [[0, 5, 10, 6, 11, 7, 11, 8], [0, 5, 11, 6, 10, 7, 10, 8], [0, 1, 2, 3, 4, 5, 6, 7]]
)
LAYER = 1
RESID = get_act_name("resid_pre", LAYER)
SITES = ("q", "k", "v", "z", "pattern")


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama])
def model(request):
    return request.param()


@pytest.fixture(scope="module")
def last(model):
    return LastToken(model, TOKENS)


@pytest.fixture(scope="module")
def stream(model):
    return torch.randn(len(TOKENS), model.cfg.d_model, generator=torch.Generator().manual_seed(0))


def at_end(stream):
    def hook(resid, hook):
        resid[:, -1] = stream
        return resid

    return RESID, hook


def end_of(cache, site):
    values = cache[site, LAYER]
    return values[:, :, -1:] if site == "pattern" else values[:, -1:]


@torch.no_grad()
def test_logits_are_those_of_the_whole_run_with_the_same_change_at_its_end(model, last, stream):
    torch.testing.assert_close(last.logits(), model(TOKENS)[:, -1:], atol=1e-5, rtol=1e-5)
    with model.hooks(fwd_hooks=[at_end(stream)]):
        whole = model(TOKENS)[:, -1:]
    assert not torch.allclose(whole, last.logits(), atol=0.1)
    torch.testing.assert_close(last.logits([at_end(stream)]), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_layer_does_what_it_does_in_the_whole_run(model, last, stream):
    with model.hooks(fwd_hooks=[at_end(stream)]):
        _, changed = model.run_with_cache(TOKENS)
    _, clean = model.run_with_cache(TOKENS)
    both = torch.cat([stream, clean["resid_pre", LAYER][:, -1]])
    ours = last.attention(LAYER, both)
    assert set(ours) == set(SITES)
    for site in SITES:
        expected = torch.cat([end_of(run, site) for run in (changed, clean)])
        torch.testing.assert_close(ours[site], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_input_alone_can_hear_of_a_change(model, last, stream):
    """The query: attention by the new one to the old keys, the values old; in whole runs."""
    with model.hooks(fwd_hooks=[at_end(stream)]):
        _, changed = model.run_with_cache(TOKENS)
    _, clean = model.run_with_cache(TOKENS)
    name = get_act_name("q", LAYER)

    def query(q, hook):
        q[:, -1] = changed[name][:, -1]
        return q

    with model.hooks(fwd_hooks=[(name, query)]):
        _, expected = model.run_with_cache(TOKENS)
    ours = last.attention(LAYER, clean["resid_pre", LAYER][:, -1], [(name, query)])
    torch.testing.assert_close(ours["z"], end_of(expected, "z"), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours["z"], end_of(changed, "z"), atol=1e-3)


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_rows_that_are_no_multiple_of_the_prompts(model, last, rows):
    with pytest.raises(ValueError, match=f"stream has {rows} rows; expected 3, .* or a multiple"):
        last.attention(LAYER, torch.zeros(rows, model.cfg.d_model))
