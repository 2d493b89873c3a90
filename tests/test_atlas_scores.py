"""Every score of the atlas, on heads that were built to have a known one, and on its null."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.attention import (
    REPEATED_SCORES,
    TEXT_SCORES,
    duplicate_token,
    entropy,
    even_attention,
    first_token,
    induction,
    local_window,
    pattern_samples,
    previous_token,
    self_attention,
)
from helpers.atlas.build import GROUPS
from helpers.atlas.induction import (
    induction_logit_samples,
    prefix_copying,
    prefix_matching,
    prefix_samples,
)
from helpers.atlas.inputs import prefix_tokens, sampled_tokens
from helpers.atlas.ioi_roles import (
    ATTENTION_SCORES,
    NAMES,
    attention_and_attribution,
    ioi_patching,
    patching,
    sampled_prompts,
)
from helpers.atlas.scores import Measured, centred_rank, describe
from helpers.atlas.weights import (
    copying_eigenvalue,
    copying_rank,
    copying_top5,
    eigenvalue_samples,
    first_streams,
    head_inputs,
    ov_eigenvalue,
    ov_eigenvalues,
    qk_same_token,
    suppression_top5,
    token_samples,
)
from helpers.ioi.prompts import ioi_task
from helpers.logit_diff import logit_diff_directions, residual_stack_to_logit_diff
from helpers.task import Task
from tests import constructed
from tests.constructed import (
    EVEN_HEAD,
    FIRST_TOKEN_HEAD,
    INDUCTION_HEAD,
    OTHER_TOKEN_HEAD,
    PREVIOUS_TOKEN_HEAD,
    SAME_TOKEN_HEAD,
    SELF_HEAD,
    SUPPRESSION_HEAD,
    constructed_model,
)
from tests.tiny_models import VOCAB, tiny_gpt2, tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

N = 20  # positions: ten tokens twice
ALL_SCORES = [score for group in GROUPS.values() for score in group.scores]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def built() -> TransformerBridge:
    return constructed_model()


def looking(target: Callable[[int], int]) -> Tensor:
    """All attention of position i on target(i), or on itself where that is no earlier position."""
    pattern = torch.zeros(1, 1, N, N)
    for i in range(N):
        pattern[..., i, target(i) if 0 <= target(i) <= i else i] = 1
    return pattern


def at(measured: Measured, head: tuple[int, int]) -> float:
    return measured.value[head].item()


# --- docstrings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ALL_SCORES, ids=lambda score: score.__name__)
def test_every_score_says_what_it_is(score):
    entry = describe(score)
    assert all(entry[field] for field in ("meaning", "formula", "range", "null", "source"))


def test_a_docstring_without_a_field_is_refused():
    def score():
        """Meaning.

        Formula: x.
        Range: 0 to 1.
        """

    with pytest.raises(ValueError, match=r"score lacks Null, Source"):
        describe(score)


# --- attention, on patterns -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "target"),
    [
        (previous_token, lambda i: i - 1),
        (duplicate_token, lambda i: i - N // 2),
        (induction, lambda i: i - N // 2 + 1),
        (first_token, lambda i: 0),
        (self_attention, lambda i: i),
        (local_window, lambda i: i - 1),
        (local_window, lambda i: i - 8),
    ],
)
def test_a_head_that_only_looks_there_scores_one(score, target):
    assert score(looking(target)).item() == 1


@pytest.mark.parametrize("target", [lambda i: i - 9, lambda i: i])
def test_outside_the_window_nothing_counts(target):
    pattern = looking(target)
    pattern[..., 8, :] = pattern[..., 9, :].roll(-1, -1)  # position 8 cannot look nine back
    assert local_window(pattern).item() == 0


def uniform_loop(score) -> float:
    """The null of a score by its formula, in plain Python."""
    share = {i: 1 / (i + 1) for i in range(N)}
    n = N // 2
    values = {
        previous_token: [share[i] for i in range(1, N)],
        duplicate_token: [share[i] for i in range(n, N)],
        induction: [share[i] for i in range(n - 1, N)],
        first_token: [share[i] for i in range(1, N)],
        self_attention: [share[i] for i in range(1, N)],
        local_window: [8 * share[i] for i in range(8, N)],
        entropy: [-(i + 1) * share[i] * math.log(share[i]) / math.log(i + 1) for i in range(1, N)],
    }[score]
    return sum(values) / len(values)


@pytest.mark.parametrize("score", [*REPEATED_SCORES, *TEXT_SCORES], ids=lambda s: s.__name__)
def test_even_attention_scores_the_null(score):
    assert score(even_attention(N)).item() == pytest.approx(uniform_loop(score), rel=1e-5)


def test_entropy_of_a_head_that_looks_at_one_or_at_two_tokens():
    assert entropy(looking(lambda i: i - 1)).item() == 0
    both = (looking(lambda i: 0) + looking(lambda i: i)) / 2
    expected = sum(math.log(2) / math.log(i + 1) for i in range(1, N)) / (N - 1)
    assert entropy(both).item() == pytest.approx(expected, rel=1e-5)


# --- induction, on patterns and effects -----------------------------------------------------------

BLOCK = 5
PREFIX_N = 1 + 4 * BLOCK


def prefix_pattern(copies_back: list[int]) -> Tensor:
    """Attention shared evenly between what followed the copies so many blocks back."""
    pattern = torch.zeros(1, 1, PREFIX_N, PREFIX_N)
    for dest in range(PREFIX_N):
        sources = [dest - k * BLOCK + 1 for k in copies_back if dest - k * BLOCK + 1 >= 1]
        for src in sources or [dest]:
            pattern[..., dest, src] = 1 / len(sources or [dest])
    return pattern


@pytest.mark.parametrize("copies_back", [[1], [1, 2], [1, 2, 3]])
def test_prefix_matching_is_one_however_the_copies_share(copies_back):
    assert prefix_matching(prefix_pattern(copies_back), BLOCK).item() == pytest.approx(1)


def test_prefix_matching_of_even_attention_is_its_null():
    later = range(1 + BLOCK, PREFIX_N)
    shares = []
    for i in later:
        earlier = [i - k * BLOCK + 1 for k in (1, 2, 3) if i - k * BLOCK + 1 >= 1]
        shares.append(len(earlier) / (i + 1))
    expected = sum(shares) / len(shares)
    assert prefix_matching(even_attention(PREFIX_N), BLOCK).item() == pytest.approx(expected)


def test_prefix_copying_of_a_head_that_raises_what_it_looks_at():
    pattern = prefix_pattern([1])
    effect = torch.zeros(1, PREFIX_N, 1, BLOCK)
    for dest in range(PREFIX_N):
        attended = pattern[0, 0, dest, 1:].unflatten(0, (4, BLOCK)).sum(0)
        effect[0, dest, 0] = 3 * attended - 1
    assert prefix_copying(pattern, effect).item() == pytest.approx(1)
    assert prefix_copying(pattern, -effect).item() == pytest.approx(0)


def test_prefix_copying_of_a_head_that_raises_one_token_whatever_it_looks_at():
    pattern = prefix_pattern([1])[..., 1 + BLOCK :, :]  # three copies, each token once in each
    effect = torch.zeros(1, 3 * BLOCK, 1, BLOCK)
    effect[..., 2] = 1
    assert prefix_copying(pattern, effect).item() == pytest.approx(1 / BLOCK)
    assert prefix_copying(pattern, torch.zeros_like(effect)).item() == 0


# --- circuits, on matrices ------------------------------------------------------------------------


def test_eigenvalues_of_copying_and_suppression():
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(6, 6, generator=generator)
    values = torch.tensor([1.0, 2, 3, 4, 5, 6])
    copying = basis @ values.diag() @ basis.inverse()
    signs = torch.tensor([1.0, 1, 1, -1, -1, -1])
    mixed = basis @ (values * signs).diag() @ basis.inverse()
    scores = ov_eigenvalue(torch.stack([copying, -copying, mixed, torch.zeros(6, 6)]))
    # Eigenvalues of an ill-conditioned product in float32.
    torch.testing.assert_close(scores, torch.tensor([1, -1, -9 / 21, 0]), atol=1e-3, rtol=0)


def test_eigenvalues_of_random_weights_are_near_the_null():
    generator = torch.Generator().manual_seed(0)
    scores = ov_eigenvalue(torch.randn(200, 32, 32, generator=generator))
    assert abs(scores.mean().item()) < 5 * (1.5 / 32) / 200**0.5
    assert scores.std().item() == pytest.approx(1.5 / 32, rel=0.2)  # of 200: 5 % standard error


def test_the_small_product_has_the_eigenvalues_of_the_circuit():
    model = tiny_llama()
    w_v = model.blocks[1].attn.W_V.repeat_interleave(2, 0)
    for head in range(4):
        circuit = model.W_E @ w_v[head] @ model.blocks[1].attn.W_O[head] @ model.W_U
        eigenvalues = torch.linalg.eigvals(circuit.double())
        expected = (eigenvalues.sum().real / eigenvalues.abs().sum()).item()
        assert ov_eigenvalues(model).value[1, head].item() == pytest.approx(expected, abs=1e-4)


def test_what_all_tokens_share_does_not_count():
    generator = torch.Generator().manual_seed(0)
    values, readers = torch.randn(2, 50, 3, 8, generator=generator)
    shared = copying_eigenvalue(values + 100, readers - 100)
    torch.testing.assert_close(copying_eigenvalue(values, readers), shared, atol=1e-3, rtol=0)
    torch.testing.assert_close(copying_eigenvalue(values, values), torch.ones(3), atol=1e-4, rtol=0)


def test_ranks():
    logits = torch.tensor([[3.0, 1, 2, 0, 0, 0, 0], [3, 1, 2, 0, 0, 0, 0], [0.0] * 7])
    tokens = torch.tensor([0, 1, 4])
    assert copying_rank(logits, tokens).tolist() == pytest.approx([1, (4 - 2) / 6, 0])
    # Five zeros share the last places, and seven equal logits are nobody's top five.
    assert copying_top5(logits, tokens).tolist() == [1, 1, 0]
    assert suppression_top5(logits, torch.tensor([3, 2, 4])).tolist() == [1, 0, 0]
    assert suppression_top5(-logits, tokens).tolist() == [1, 1, 0]


def test_centred_rank_is_zero_on_average_for_random_values():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4000, 9, generator=generator)
    ranks = centred_rank(values, values[:, 0])
    assert abs(ranks.mean().item()) < 5 * ranks.std().item() / 4000**0.5


def test_qk_of_keys_that_are_the_queries_and_of_their_opposites():
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(30, 8, generator=generator), dim=1)
    assert qk_same_token(queries, queries).tolist() == [1] * 30
    assert qk_same_token(queries, -queries).tolist() == [-1] * 30
    assert qk_same_token(torch.zeros(30, 8), queries).tolist() == [0] * 30


# --- heads built into a model ---------------------------------------------------------------------


def test_attention_of_the_built_heads(built):
    once = torch.stack([sampled_tokens(20, row, 1, VOCAB) for row in range(3)])
    tokens = torch.cat([once, once], dim=1)
    scores = {score.__name__: score for score in (*REPEATED_SCORES, *TEXT_SCORES)}
    measured = pattern_samples(built, tokens, scores, rows_at_once=2)
    for name, head in [
        ("previous_token", PREVIOUS_TOKEN_HEAD),
        ("self_attention", SELF_HEAD),
        ("first_token", FIRST_TOKEN_HEAD),
        ("induction", INDUCTION_HEAD),
        ("local_window", PREVIOUS_TOKEN_HEAD),
    ]:
        # Position n - 1 has no earlier copy and looks everywhere; at n, what followed and the first
        # token look alike, as nothing comes before the first token but itself.
        expected = (19 + 1 / 2 + 1 / 20) / 21 if name == "induction" else 1
        assert at(measured[name], head) == pytest.approx(expected, abs=1e-4), name
    for name, result in measured.items():
        assert at(result, EVEN_HEAD) == pytest.approx(result.null, abs=1e-6), name
    assert at(measured["entropy"], PREVIOUS_TOKEN_HEAD) == pytest.approx(0, abs=1e-4)


def test_direct_effect_of_the_built_heads(built):
    once = torch.stack([sampled_tokens(20, row, 1, VOCAB) for row in range(3)])
    tokens = torch.cat([once, once], dim=1)
    measured = induction_logit_samples(built, tokens, rows_at_once=2)
    _, cache = built.run_with_cache(tokens)
    # Its value, 1 over the scale of its block's layer norm, then WRITTEN, then the last layer norm;
    # against the average over the vocabulary. At the first position half of it: see above.
    values = cache["blocks.1.attn.hook_v"][:, 20:-1, 0]
    value = values.amax(-1) - values.amin(-1)
    value[:, 0] /= 2
    scale = cache["ln_final.hook_scale"][:, 20:-1, 0]
    expected = (constructed.WRITTEN * value / scale * (1 - 1 / VOCAB)).mean()
    assert at(measured, INDUCTION_HEAD) == pytest.approx(expected.item(), rel=1e-3)
    assert at(measured, PREVIOUS_TOKEN_HEAD) == pytest.approx(0, abs=1e-5)
    assert at(measured, SUPPRESSION_HEAD) < 0


def test_prefix_scores_of_the_built_heads(built):
    tokens = prefix_tokens(built, rows=3, block=10, seed=0, low=1, high=VOCAB)
    measured = prefix_samples(built, tokens, rows_at_once=2)
    assert at(measured["prefix_matching"], INDUCTION_HEAD) == pytest.approx(1, abs=1e-4)
    assert at(measured["prefix_copying"], INDUCTION_HEAD) == pytest.approx(1, abs=1e-4)
    matching = measured["prefix_matching"]
    assert at(matching, EVEN_HEAD) == pytest.approx(matching.null, abs=1e-6)
    assert at(measured["prefix_copying"], EVEN_HEAD) == pytest.approx(0, abs=1e-4), "it writes nothing"


def test_circuits_of_the_built_heads(built):
    tokens = sampled_tokens(40, 0, 1, VOCAB)
    measured = token_samples(built, tokens)
    eigenvalues = eigenvalue_samples(built, tokens.reshape(2, 20))
    for name, copying, suppression in [
        ("copying_rank", 1, -1),
        ("copying_top5", 1, 0),
        ("suppression_top5", 0, 1),
    ]:
        assert at(measured[name], INDUCTION_HEAD) == pytest.approx(copying, abs=1e-6), name
        assert at(measured[name], SUPPRESSION_HEAD) == pytest.approx(suppression, abs=1e-6), name
        assert at(measured[name], EVEN_HEAD) == 0, name
    for scores in (eigenvalues, ov_eigenvalues(built)):
        assert at(scores, INDUCTION_HEAD) == pytest.approx(1, abs=1e-3)
        assert at(scores, SUPPRESSION_HEAD) == pytest.approx(-1, abs=1e-3)
    matching = measured["qk_same_token"]
    assert at(matching, SAME_TOKEN_HEAD) == pytest.approx(1)
    assert at(matching, OTHER_TOKEN_HEAD) == pytest.approx(-1)
    assert at(matching, SUPPRESSION_HEAD) == pytest.approx(0), "it asks for nothing"


# --- against plain loops, with shared keys, rotation and RMSNorm ----------------------------------


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_inputs_of_heads_are_what_their_maps_make_of_the_stream(make_model):
    model = make_model()
    tokens = torch.tensor([5, 9, 30])
    streams = first_streams(model, tokens)
    inputs = head_inputs(model, tokens)
    for layer, block in enumerate(model.blocks):
        normed = block.ln1(streams[min(layer, 1)])
        for site, weights in (("q", block.attn.W_Q), ("k", block.attn.W_K), ("v", block.attn.W_V)):
            bias = getattr(block.attn, f"b_{site.upper()}", None)
            expected = torch.einsum("tm,hmd->thd", normed, weights)
            expected = expected if bias is None else expected + bias
            torch.testing.assert_close(inputs[site][layer], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_circuit_scores_equal_a_plain_loop(make_model):
    model = make_model()
    tokens = sampled_tokens(12, 3, 1, VOCAB)
    measured = token_samples(model, tokens)
    inputs = head_inputs(model, tokens)
    layer, head = 2, 3
    shared = head * inputs["k"][layer].shape[1] // 4
    for i, token in enumerate(tokens.tolist()):
        logits = inputs["v"][layer][i, shared] @ model.blocks[layer].attn.W_O[head] @ model.W_U
        below, above = (logits < logits[token]).sum(), (logits > logits[token]).sum()
        rank = ((below - above) / (VOCAB - 1)).item()
        assert measured["copying_rank"].samples[i, layer, head].item() == pytest.approx(rank, abs=0.04)
        match = inputs["k"][layer][:, shared] @ inputs["q"][layer][i, head]
        expected = ((match < match[i]).sum() - (match > match[i]).sum()).item() / 11
        found = measured["qk_same_token"].samples[i, layer, head].item()
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_induction_logit_equals_transformer_lens(make_model):
    model = make_model()
    tokens = sampled_tokens(7, 1, 1, VOCAB).repeat(1, 2)
    measured = induction_logit_samples(model, tokens)
    _, cache = model.run_with_cache(tokens)
    unembed = model.W_U - model.W_U.mean(-1, keepdim=True)
    total = torch.zeros(model.cfg.n_layers * model.cfg.n_heads)
    for position in range(7, 13):
        stack = cache.stack_head_results(layer=-1, pos_slice=position)
        scaled = cache.apply_ln_to_stack(stack, layer=-1, pos_slice=position)
        total += scaled[:, 0] @ unembed[:, tokens[0, position + 1]]
    expected = (total / 6).reshape(model.cfg.n_layers, model.cfg.n_heads)
    torch.testing.assert_close(measured.value, expected, atol=1e-4, rtol=1e-3)


# --- IOI ------------------------------------------------------------------------------------------


def prompts_of(model: TransformerBridge) -> Task:
    """Two pairs: w1 … name, name, filler, repeated name, end."""
    rows, answers = [], []
    for a, b in [(10, 11), (20, 21)]:
        for io, s in [(a, b), (b, a)]:
            rows.append([0, 5, a, 6, b, 7, s, 8, 9])
            answers.append((io, s))
    tokens = torch.tensor(rows)
    return ioi_task(
        prompts=["" for _ in rows],
        corrupted_prompts=["" for _ in rows],
        answers=[(f"w{io}", f"w{s}") for io, s in answers],
        tokens=tokens,
        corrupted_tokens=tokens[[1, 0, 3, 2]],
        answer_tokens=torch.tensor(answers),
        str_tokens=[[str(i) for i in range(9)] for _ in rows],
    )


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_ioi_roles_equal_transformer_lens(make_model):
    model = make_model()
    prompts = prompts_of(model)
    measured = attention_and_attribution(model, prompts)
    _, cache = model.run_with_cache(prompts.tokens)
    stack = cache.stack_head_results(layer=-1, pos_slice=-1)
    directions = logit_diff_directions(model, prompts.answer_tokens)
    expected = residual_stack_to_logit_diff(stack, cache, directions).reshape(3, 4)
    torch.testing.assert_close(measured["ioi_attribution"].value, expected, atol=1e-4, rtol=1e-3)
    for where, position in {"IO": (2, 4), "S1": (4, 2), "S2": (6, 6)}.items():
        for layer in range(3):
            pattern = cache["pattern", layer][:, :, -1]
            shares = [pattern[row, :, position[row % 2]] for row in range(4)]
            got = measured[f"ioi_attention_{where.lower()}"].value[layer]
            torch.testing.assert_close(got, sum(shares) / 4, atol=1e-5, rtol=0)


@pytest.mark.parametrize("score", ATTENTION_SCORES.values())
def test_attention_from_the_end_of_built_rows(score):
    attention = torch.zeros(2, 1, 2, 10)
    attention[0, 0, 0, 3] = attention[1, 0, 0, 7] = 1
    attention[:, 0, 1] = 1 / 10
    scores = score(attention, torch.tensor([3, 7]))
    assert scores[:, 0, 0].tolist() == [1, 1]
    assert scores[:, 0, 1].tolist() == pytest.approx([0.1, 0.1])


def test_even_attention_is_the_null_of_ioi_attention(built):
    measured = attention_and_attribution(built, prompts_of(built))
    for name in ("ioi_attention_io", "ioi_attention_s1", "ioi_attention_s2"):
        assert at(measured[name], EVEN_HEAD) == pytest.approx(measured[name].null), name
    assert at(measured["ioi_attribution"], EVEN_HEAD) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("make_model", [tiny_gpt2, tiny_llama])
def test_patching_restores_what_one_head_restores(make_model):
    model = make_model()
    prompts = prompts_of(model)
    measured = patching(model, prompts)
    _, source = model.run_with_cache(prompts.tokens)

    def difference(logits: Tensor) -> float:
        right, wrong = logits[:, -1].gather(1, prompts.answer_tokens).T
        return (right - wrong).mean().item()

    clean, corrupted = (difference(model(t)) for t in (prompts.tokens, prompts.corrupted_tokens))
    for layer, head in [(0, 1), (2, 3)]:

        def patch(z, hook, head=head, layer=layer):
            z[:, :, head] = source["z", layer][:, :, head]
            return z

        name = f"blocks.{layer}.attn.hook_z"
        with model.hooks(fwd_hooks=[(lambda n, name=name: n == name, patch)]):
            patched = difference(model(prompts.corrupted_tokens))
        expected = (patched - corrupted) / (clean - corrupted)
        assert measured.value[layer, head].item() == pytest.approx(expected, abs=1e-3)


def test_patching_is_one_if_everything_comes_back_and_zero_if_nothing():
    restored = torch.tensor([0.0, 3.0]).reshape(1, 1, 2)
    assert ioi_patching(restored, 3.0).flatten().tolist() == [0, 1]


def test_names_that_the_tokenizer_does_not_know_are_refused():
    with pytest.raises(ValueError, match="first names"):
        sampled_prompts(tiny_gpt2(), 4, 0, NAMES)


# --- errors ---------------------------------------------------------------------------------------


def test_the_error_is_that_of_a_mean():
    samples = torch.tensor([1.0, 2, 3, 6]).reshape(4, 1, 1)
    measured = Measured(samples, 0.0)
    assert measured.value.item() == 3
    assert measured.error.item() == pytest.approx((14 / 3) ** 0.5 / 2)
    assert Measured(samples[:1], 0.0).error.item() == 0
