"""Every public helper in half and double precision: float32's values up to rounding, in float32.

A helper is public if its name has no underscore, and is one of these if it takes a model, a cache or a
tensor. Each has an entry below: how to call it, or why it computes no number. One without fails.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge

import helpers
import helpers.atlas
import helpers.edges
import helpers.ioi
from helpers import (
    accounts,
    attribution,
    circuit,
    head_scores,
    intervals,
    logit_diff,
    padding,
    patching,
    path_patching,
    precision,
    probe,
    readout,
    replay,
    tables,
)
from helpers.answers import GroupDiff
from helpers.atlas import attention, build, induction, ioi_roles, scores, table, weights
from helpers.edges import circuit as edge_circuit
from helpers.edges import definitions, estimated, exact, graph
from helpers.edges import writes as edge_writes
from helpers.ioi.prompts import ioi_task
from helpers.logit_diff import LogitDiff
from tests.tiny_models import bridge, tiny_gpt2_hf, tiny_llama_hf

pytestmark = pytest.mark.usefixtures("one_thread")

# Of a result, relative to its size: three random layers in these precisions, attention included.
ROUNDING = {torch.bfloat16: 0.12, torch.float16: 0.025, torch.float64: 1e-4}
# Given the same tensors, nothing but float32's own rounding.
EXACT = 1e-6

TOKENS = torch.tensor([[0, 5, 10, 6, 11, 7, 11, 8], [0, 5, 11, 6, 10, 7, 10, 8]])
ANSWERS = torch.tensor([[10, 11], [11, 10]])
REPEATED = torch.tensor([[1, 9, 4, 7, 1, 9, 4, 7], [3, 8, 2, 5, 3, 8, 2, 5]])
PER_PROMPT = LogitDiff(ANSWERS, per_prompt=True)
GROUPS = torch.tensor([[[10, 12], [11, -1]], [[11, -1], [10, 13]]])
METRICS = (
    PER_PROMPT,
    GroupDiff(GROUPS, "summed probability", per_prompt=True),
    GroupDiff(GROUPS, "mean logit", per_prompt=True),
    lambda logits: logits[:, 3] - logits.mean(-1),  # unembeds all tokens
)
# Two pairs, so that there is an error.
PROMPTS = ioi_task(
    prompts=[""] * 4,
    corrupted_prompts=[""] * 4,
    answers=[("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")],
    tokens=torch.cat([TOKENS, TOKENS + 9 * (TOKENS >= 10)]),
    corrupted_tokens=torch.cat([TOKENS.flip(0), (TOKENS + 9 * (TOKENS >= 10)).flip(0)]),
    answer_tokens=torch.cat([ANSWERS, ANSWERS + 9]),
    str_tokens=[list("01234567")] * 4,
)


class Run(NamedTuple):
    model: TransformerBridge
    cache: ActivationCache
    logits: Tensor


@cache
def run_in(kind: str, dtype: torch.dtype, weights_of: torch.dtype) -> Run:
    """A tiny model whose weights were rounded to one precision, run in another."""
    model = bridge({"gpt2": tiny_gpt2_hf, "llama": tiny_llama_hf}[kind]())
    model.original_model.to(weights_of).to(dtype)
    with torch.no_grad():
        logits, kept = model.run_with_cache(TOKENS)
    return Run(model, kept, logits)


# --- what each helper is called with ---------------------------------------------------------------


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PATTERN = random(2, 3, 20, 20).tril().softmax(-1)
TO_TENSOR = dict[str, Callable[[Callable[[Tensor], Tensor]], Any]]
# By name: a call, given what puts a tensor into the precision that is tried.
OF_TENSORS: TO_TENSOR = {
    "logit_diff.logit_diff": lambda to: [
        logit_diff.logit_diff(to(100 + random(64, 5, 61)), torch.tensor([[4, 8]] * 64), per_prompt=each)
        for each in (True, False)
    ],
    "logit_diff.normalise": lambda to: logit_diff.normalise(
        to(random(3, 4)), clean=to(torch.tensor(3.3)), corrupted=to(torch.tensor(-1.7))
    ),
    "head_scores.top_heads": lambda to: head_scores.top_heads(to(random(3, 4)), 3),
    "head_scores.diagonal_score": lambda to: head_scores.diagonal_score(to(PATTERN), 3),
    "intervals.mean_interval": lambda to: intervals.mean_interval(
        to(random(2, 30)), to(2 + random(30, seed=1)), resamples=20
    ),
    "tables.head_table": lambda to: tables.head_table([(0, 1), (2, 3)], {"x": to(random(3, 4))}),
    "attribution.agreement": lambda to: attribution.agreement(
        to(random(3, 9)), to(random(3, 9, seed=1)), top=5
    ),
    "edges.graph.strongest_edges": lambda to: [
        edge.value
        for edge in graph.strongest_edges(
            run_in("gpt2", torch.float32, torch.float32).model, to(random(40, 16)), 5
        )
    ],
    "path_patching.strongest_paths": lambda to: path_patching.strongest_paths(
        {"query": to(random(3, 4))}, head_scores.Head(2, 0, 1.0)
    ),
    "atlas.table.make_table": lambda to: table.make_table("tiny", {"x": to(random(2, 3))}, 2, 3),
    "precision.in_float": lambda to: precision.in_float(to(random(3))),
    "probe.same_logits": lambda to: float(probe.same_logits(to(random(3, 9)), to(random(3, 9)), 1e-3)),
    **{
        f"atlas.attention.{score.__name__}": lambda to, score=score: score(to(PATTERN))
        for score in (*attention.REPEATED_SCORES, *attention.TEXT_SCORES)
    },
    "atlas.induction.induction_logit": lambda to: induction.induction_logit(to(random(2, 200, 3))),
    "atlas.induction.prefix_matching": lambda to: induction.prefix_matching(to(PATTERN), 5),
    "atlas.induction.prefix_copying": lambda to: induction.prefix_copying(
        to(random(2, 3, 16, 21).softmax(-1)), to(random(2, 16, 3, 5))
    ),
    "atlas.ioi_roles.ioi_attribution": lambda to: ioi_roles.ioi_attribution(to(random(2, 3, 4))),
    "atlas.ioi_roles.ioi_patching": lambda to: ioi_roles.ioi_patching(to(random(2, 3, 4)), 3.0),
    **{
        f"atlas.ioi_roles.{score.__name__}": lambda to, score=score: score(
            to(random(2, 3, 4, 9)), torch.tensor([3, 4])
        )
        for score in ioi_roles.ATTENTION_SCORES.values()
    },
    "atlas.scores.centred_rank": lambda to: scores.centred_rank(to(random(5, 9)), to(random(5))),
    "atlas.weights.ov_eigenvalue": lambda to: weights.ov_eigenvalue(to(random(3, 8, 8))),
    "atlas.weights.copying_eigenvalue": lambda to: weights.copying_eigenvalue(
        to(3 + random(200, 3, 8)), to(random(200, 3, 8, seed=1))
    ),
    "atlas.weights.qk_same_token": lambda to: weights.qk_same_token(
        to(random(9, 8)), to(random(9, 8, seed=1))
    ),
    **{
        f"atlas.weights.{score.__name__}": lambda to, score=score: score(
            to(random(5, 61)), torch.tensor([1, 2, 3, 4, 5])
        )
        for score in weights.OV_SCORES
    },
}


def stacks(run: Run) -> Any:
    directions = logit_diff.logit_diff_directions(run.model, ANSWERS)
    return {
        make: logit_diff.residual_stack_to_logit_diff(
            getattr(run.cache, make)(layer=-1, pos_slice=-1), run.cache, directions, per_prompt=True
        )
        for make in ("decompose_resid", "accumulated_resid", "stack_head_results")
    }


def gating(run: Run, function: Callable, several: bool = False) -> Any:
    model = run.model
    means = circuit.mean_outputs(model, TOKENS, torch.tensor([0, 0]))[:, [0, 0]]
    gates = torch.full((model.cfg.n_layers, *TOKENS.shape, model.cfg.n_heads), 0.5)
    return function(model, TOKENS, ANSWERS, [gates, 1 - 0.5 * gates] if several else gates, means)


def checked(run: Run) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a random model, that it cannot do the task
        check = PROMPTS.check(run.model)
    return check.clean, check.corrupted


def sites(run: Run) -> Any:
    return [
        patching.patch_sweep(run.model, TOKENS, TOKENS.flip(0), site, metric)
        for site in ("resid_pre", "z", "pattern", "v")
        for metric in METRICS
    ]


def estimated_sites(run: Run) -> Any:
    return [
        attribution.attribution_sweep(run.model, TOKENS, TOKENS.flip(0), site, metric, steps=steps)
        for site, steps in (("resid_pre", 1), ("z", 2), ("pattern", 1), ("v", 1))
        for metric in METRICS
    ]


def names_of_z(run: Run) -> set[str]:
    """Of the last layer: before, a gradient is 0.13 of its size off in bfloat16, there and back."""
    return replay.hook_names_of(run.model, "z", [2])


def exact_edges(run: Run) -> Tensor:
    into = [graph.Reader(2, 1, through) for through in ("q", "k", "v")]
    into += [graph.Reader(1, None, "mlp"), graph.Reader(3, None, "logits")]
    return exact.edge_sweep(run.model, TOKENS, TOKENS.flip(0), into, PER_PROMPT)


def half_of_edges(run: Run) -> Tensor:
    kept = graph.possible_edges(run.model)
    kept[:, ::2] = False
    reference = edge_writes.writes(run.model, TOKENS.flip(0))
    return edge_circuit.with_only_edges(run.model, TOKENS, kept, reference, PER_PROMPT)


def base_of(run: Run) -> replay.BaseRun:
    return replay.run_base(run.model, TOKENS)


@torch.no_grad()
def rerun(run: Run) -> Tensor:
    base = base_of(run)
    return replay.run_patched(
        run.model, base, [base.resid_pre[1][:, [2]]], "resid_pre", [(1, None)], [2]
    )


@torch.no_grad()
def checked_again(run: Run) -> Tensor:
    return replay.checked_base(run.model, TOKENS, "z", 2, 0).final


@torch.no_grad()
def heard_again(run: Run) -> Tensor:
    """Queries for a given stream."""
    base = base_of(run)
    return replay.receiver_inputs(run.model, base, base.resid_pre[1].flip(0), "q", 1, 0)


@torch.no_grad()
def given_to_a_head(run: Run) -> Tensor:
    inputs = run.cache["q", 1].flip(0).clone()
    return replay.run_receiver(run.model, base_of(run), run.cache["z", 1], inputs, "q", (1, 2), 0)


def accounted(run: Run) -> Any:
    """Parts are differences of runs, in which rounding is relative to what is subtracted."""
    output = random(2, run.model.cfg.d_head)
    account = accounts.account_for(run.model, TOKENS, ANSWERS, {0: ((1, 2), output)})[0]
    parts = (account.direct, account.scale, account.heads, account.mlps)
    return [account.before, account.after, *(account.before + part for part in parts)]


def padded(run: Run) -> Tensor:
    """Two prompts of unequal length, once it is known that the model keeps to the mask."""
    rows = padding.PaddedTokens.of_rows([TOKENS[0].tolist(), TOKENS[1, :3].tolist()], "cpu")
    padding.check_padding(run.model, rows.tokens, rows.mask)
    return PER_PROMPT(rows.final_logits(run.model))


OF_MODELS: dict[str, Callable[[Run], Any]] = {
    "padding.check_padding": padded,
    "accounts.account_for": accounted,
    "accounts.head_attribution": lambda run: accounts.head_attribution(run.model, TOKENS, ANSWERS),
    "attribution.attribution_sweep": estimated_sites,
    "attribution.between_runs": lambda run: (
        attribution.between_runs(run.model, TOKENS, TOKENS.flip(0), names_of_z(run)).change
    ),
    "attribution.gradients_at": lambda run: attribution.gradients_at(
        run.model, TOKENS, PER_PROMPT, names_of_z(run), run.cache["resid_pre", 0]
    ),
    "edges.exact.edge_sweep": exact_edges,
    "edges.estimated.edge_attribution": lambda run: [
        estimated.edge_attribution(run.model, TOKENS, TOKENS.flip(0), metric, steps=2)
        for metric in METRICS
    ],
    "edges.circuit.with_only_edges": half_of_edges,
    "edges.definitions.path_through_mlps": lambda run: [
        definitions.path_through_mlps(
            run.model, TOKENS, TOKENS.flip(0), (0, 1), (2, 1), through, metric, for_its_group=grouped
        )
        for through, grouped in (("q", False), ("k", True))
        for metric in METRICS
    ],
    "edges.writes.writes": lambda run: edge_writes.writes(run.model, TOKENS),
    "edges.writes.written_by_heads": lambda run: edge_writes.written_by_heads(
        run.model, 1, run.cache["z", 1]
    ),
    "edges.writes.stream_before": lambda run: [
        edge_writes.stream_before(run.model, edge_writes.writes(run.model, TOKENS), 2, mlp=mlp)
        for mlp in (False, True)
    ],
    "circuit.mean_outputs": lambda run: circuit.mean_outputs(run.model, TOKENS, torch.tensor([1, 0])),
    "circuit.gated_logit_diff": lambda run: gating(run, circuit.gated_logit_diff),
    "circuit.gated_logit_diffs": lambda run: gating(run, circuit.gated_logit_diffs, several=True),
    "circuit.gate_attribution": lambda run: circuit.gate_attribution(
        run.model,
        TOKENS,
        ANSWERS,
        circuit.mean_outputs(run.model, TOKENS, torch.tensor([0, 0]))[:, [0, 0]],
        steps=2,
    ),
    "head_scores.attention_scores": lambda run: head_scores.attention_scores(run.model, REPEATED),
    "head_scores.attention_between": lambda run: head_scores.attention_between(
        run.cache, torch.tensor([7, 7]), torch.tensor([2, 2])
    ),
    "logit_diff.logit_diff_directions": lambda run: logit_diff.logit_diff_directions(run.model, ANSWERS),
    "logit_diff.residual_stack_to_logit_diff": stacks,
    "patching.patch_sweep": sites,
    "task_check.check_task": checked,
    "patching.patch_head_outputs": lambda run: patching.patch_head_outputs(
        run.model, TOKENS, [(1, 2)], [run.cache["z", 1][:, :, 2].flip(0)], PER_PROMPT
    ),
    "path_patching.path_patch_sweep": lambda run: [
        path_patching.path_patch_sweep(run.model, TOKENS, TOKENS.flip(0), (2, 1), through, PER_PROMPT)
        for through in ("q", "v")
    ],
    "probe.probe": lambda run: [probe.probe(run.model).scale, probe.probe(run.model).cap],
    "probe.normed": lambda run: probe.normed(run.cache["resid_post", 2][None, :, -1], run.cache, -1),
    "probe.before_norm": lambda run: probe.before_norm(run.model, precision.in_float(run.model.W_U).T),
    "readout.final_readout": lambda run: readout.final_readout(run.model).scale,
    "readout.linear_readout": lambda run: readout.linear_readout(run.model).scale,
    "readout.unembedding": lambda run: readout.unembedding(run.model),
    "readout.read_directions": lambda run: readout.read_directions(run.model, run.model.W_U.T),
    "readout.normed_stack": lambda run: readout.normed_stack(
        run.cache["resid_post", 2][None, :, -1], run.cache
    ),
    "replay.measure": lambda run: [
        replay.measure(run.model, metric, run.cache["resid_post", 2][None, :, -1]) for metric in METRICS
    ],
    "replay.unpatched_metric": lambda run: replay.unpatched_metric(run.model, PER_PROMPT, base_of(run)),
    "atlas.attention.pattern_samples": lambda run: attention.pattern_samples(
        run.model, TOKENS, {"first": attention.first_token}
    ),
    "atlas.build.build_atlas": lambda run: (
        build.build_atlas(
            run.model,
            build.Settings(rows=2, length=4, block=3, passages=2, tokens=8, ioi_pairs=2),
            groups=["attention on repeated tokens", "induction logits"],
        ).table
    ),
    "atlas.induction.induction_logit_samples": lambda run: induction.induction_logit_samples(
        run.model, REPEATED
    ),
    "atlas.induction.prefix_samples": lambda run: induction.prefix_samples(
        run.model, torch.tensor([[0, *[4, 9, 2] * 4], [0, *[7, 1, 5] * 4]])
    ),
    "atlas.ioi_roles.attention_and_attribution": lambda run: ioi_roles.attention_and_attribution(
        run.model, PROMPTS
    ),
    "atlas.ioi_roles.patching": lambda run: ioi_roles.patching(run.model, PROMPTS),
    "atlas.ioi_roles.task_logit_diff": lambda run: ioi_roles.task_logit_diff(run.model, PROMPTS)[0],
    "atlas.weights.ov_eigenvalues": lambda run: weights.ov_eigenvalues(run.model),
    "atlas.weights.eigenvalue_samples": lambda run: weights.eigenvalue_samples(
        run.model, torch.arange(1, 61).reshape(2, 30)
    ),
    "atlas.weights.head_inputs": lambda run: weights.head_inputs(run.model, torch.arange(1, 9)),
}

# What a helper hands on as the model holds it: the machinery below, in the model's own precision.
AS_THE_MODEL_HOLDS: dict[str, Callable[[Run], Any]] = {
    "replay.forward": lambda run: replay.forward(run.model, TOKENS, []),
    "replay.run_base": lambda run: base_of(run).final,
    "replay.run_patched": rerun,
    "replay.checked_base": checked_again,
    "replay.receiver_inputs": heard_again,
    "replay.run_receiver": given_to_a_head,
    "atlas.weights.first_streams": lambda run: weights.first_streams(run.model, torch.arange(1, 9)),
}

GPT2 = "measures what was published of GPT-2 small in float32, with helpers that are tried here"
NO_NUMBERS = {
    "circuit.gates_at": "zeros and ones",
    "head_scores.repeated_random_tokens": "tokens",
    **dict.fromkeys(
        (
            *(
                "ioi.prompts.name_positions",
                "ioi.prompts.reference_prompts",
                "ioi.prompts.ioi_prompts",
                "ioi.prompts.ioi_task",
                "answers.metric_of",
                "answers.metric_rows",
                "answers.checked_combine",
                "spans.last_token_of",
                "task_input.role_positions",
                "sampling.single_tokens",
                "sampling.token_count",
                "sampling.of_commonest_length",
                "sampling.is_single_token",
                "tokenizing.is_unknown",
                "tokenizing.prompt_rows",
                "tokenizing.answer_ids",
                "ioi.dataset.sample_ioi",
            ),
            *(
                "ioi.prompts.equal_length_tokens",
                "ioi.prompts.check_names_appear",
                "atlas.ioi_roles.sampled_prompts",
            ),
            *("atlas.inputs.token_range", "atlas.inputs.start_token", "atlas.inputs.passages"),
            "atlas.inputs.prefix_tokens",
            *("atlas.examples.example_tokens", "atlas.examples.random_words"),
        ),
        "tokens and names",
    ),
    **dict.fromkeys(
        (
            *("identity.remember", "identity.weights_identity", "identity.weights_revision"),
            *("identity.untold", "identity.memory_hash", "identity.tokenizer_identity"),
            "atlas.identity.model_identity",
        ),
        "a hash, in which precision counts",
    ),
    **dict.fromkeys(
        (
            *("models.n_key_value_heads", "replay.hook_names_of", "replay.prompts_at_once"),
            *("precision.precision_of", "probe.called", "probe.probe_tokens"),
        ),
        "a name or a size",
    ),
    **dict.fromkeys(
        (
            *("readout.check_heads", "readout.check_parts", "replay.check_model", "replay.check_tokens"),
            *("replay.check_replay", "replay.check_site", "edges.writes.check_heads_apart"),
        ),
        "checks, at the head of the helpers that are tried here",
    ),
    **dict.fromkeys(
        (
            *(
                "edges.graph.writers",
                "edges.graph.readers",
                "replay.side_by_side",
                "replay.first_difference",
            ),
            *("edges.graph.heard_by", "edges.graph.possible_edges", "edges.graph.edge_mask"),
            *("edges.graph.on_a_path", "edges.graph.strongest_readers", "edges.drawing.edge_drawing"),
        ),
        "names and places",
    ),
    "attribution.begin_from": "a hook",
    "edges.writes.before_mlp": "the model's own norm, in its precision",
    "edges.circuit.faithfulness": "shares of what edges.circuit.with_only_edges gives, which is tried",
    "work.finished": "hands on what tasks compute",
    "atlas.scores.how_many": "takes truths",
    "intervals.share_interval": "takes truths",
    "processing.process_weights": "tried in tests/test_processing.py",
    "probe.norm_weight": "None here; tried unfolded in tests/test_readout.py",
    **dict.fromkeys(
        (
            *("head_attribution", "patched", "head_scores", "ablate_at_end", "final_scale"),
            *("run_prompts", "one_prompt", "logit_lens", "layer_attribution", "measure"),
            "published_comparison",
        ),
        GPT2,
    ),
    **dict.fromkeys(("atlas.build.load_or_build", "atlas.build.build_files"), "build_atlas, and files"),
    "atlas.weights.token_samples": "ranks, of which rounding may change any; made of head_inputs",
    "atlas.examples.build_examples": "attention rounded to a byte, of the model's own tokenizer's texts",
}
NO_NUMBERS |= {f"ioi.published_run.{name}": why for name, why in NO_NUMBERS.items() if why == GPT2}

TAKES = re.compile(r"TransformerBridge|ActivationCache|\bTensor\b|\bFloat\[|\bInt\[|\bGates\b|\bRun\b")


def public_helpers() -> Iterator[str]:
    """Functions of ``helpers`` and of packages in it that take a model, a cache or a tensor."""
    for package in (helpers, helpers.atlas, helpers.edges, helpers.ioi):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if info.ispkg or info.name.endswith("__main__"):
                continue
            for name, function in vars(importlib.import_module(info.name)).items():
                is_own = inspect.isfunction(function) and function.__module__ == info.name
                if is_own and not name.startswith("_") and _takes_numbers(function):
                    yield f"{info.name}.{name}".removeprefix("helpers.")


def _takes_numbers(function: Callable) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(TAKES.search(str(parameter.annotation)) for parameter in parameters)


TRIED = {**OF_TENSORS, **OF_MODELS, **AS_THE_MODEL_HOLDS}


@pytest.mark.parametrize("name", list(public_helpers()))
def test_every_public_helper_has_an_entry(name):
    assert (name in TRIED) != (name in NO_NUMBERS), (
        f"helpers.{name} takes a model, a cache or a tensor: say in tests/test_half_precision.py how to "
        "call it, or why it computes no number."
    )


def test_every_entry_is_of_a_public_helper():
    unqualified = {name for name, why in NO_NUMBERS.items() if why == GPT2 and "." not in name}
    assert set(TRIED) | set(NO_NUMBERS) - unqualified == set(public_helpers())


# --- comparing -------------------------------------------------------------------------------------


def numbers(result: Any) -> Iterator[Tensor]:
    """Every tensor of floats in a result, whatever holds it; Python's floats as float32."""
    if isinstance(result, Tensor):
        if result.is_floating_point():
            yield result.detach()
    elif isinstance(result, float):
        yield torch.tensor(result, dtype=torch.float32)
    elif isinstance(result, pd.DataFrame):
        yield torch.as_tensor(result.select_dtypes("float").to_numpy(copy=True)).float()
    elif is_dataclass(result):
        for field in fields(result):
            yield from numbers(getattr(result, field.name))
    elif isinstance(result, dict):
        for value in result.values():
            yield from numbers(value)
    elif isinstance(result, list | tuple):
        for value in result:
            yield from numbers(value)


def off(ours: Tensor, exact: Tensor) -> float:
    """How far, relative to the size of the whole."""
    ours, exact = ours.double(), exact.double()
    return ((ours - exact).norm() / exact.norm().clamp(min=1e-9)).item()


def allowed(dtype: torch.dtype) -> set[torch.dtype]:
    """float64 stays, unless it went through Python's floats, or files."""
    return {torch.float32, torch.float64} if dtype == torch.float64 else {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, *ROUNDING])
@pytest.mark.parametrize("name", OF_TENSORS)
def test_of_tensors(name, dtype):
    """What is given is rounded; nothing after it is."""
    ours = list(numbers(OF_TENSORS[name](lambda tensor: tensor.to(dtype))))
    exact = list(numbers(OF_TENSORS[name](lambda tensor: tensor.to(dtype).float())))
    assert ours
    assert len(ours) == len(exact)
    assert {part.dtype for part in ours} <= allowed(dtype)
    assert max(map(off, ours, exact)) <= EXACT


# In `make quick` in the precision that most models come in.
PRECISIONS = [
    pytest.param(dtype, marks=[] if dtype == torch.bfloat16 else pytest.mark.slow) for dtype in ROUNDING
]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("name", {**OF_MODELS, **AS_THE_MODEL_HOLDS})
def test_of_models(name, kind, dtype):
    call = {**OF_MODELS, **AS_THE_MODEL_HOLDS}[name]
    stored = dtype if dtype != torch.float64 else torch.float32
    ours = list(numbers(call(run_in(kind, dtype, stored))))
    exact = list(numbers(call(run_in(kind, torch.float32, stored))))
    assert ours
    assert len(ours) == len(exact)
    assert {part.dtype for part in ours} <= ({dtype} if name in AS_THE_MODEL_HOLDS else allowed(dtype))
    assert max(map(off, ours, exact)) <= ROUNDING[dtype]
