"""A tiny model of every architecture that TransformerLens adapts, and what the helpers do with it.

``python -m tests.architectures`` writes the table ``helpers/ARCHITECTURES.md``; the tests check it row
by row. A model agrees where a helper gives what the model itself gives, by an oracle that runs it.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import transformers
from torch import Tensor
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from helpers.atlas.ioi_roles import attention_and_attribution
from helpers.attribution import attribution_sweep
from helpers.edges.circuit import with_only_edges
from helpers.edges.estimated import edge_attribution
from helpers.edges.exact import edge_sweep
from helpers.edges.graph import (
    Edge,
    Reader,
    Writer,
    edge_mask,
    heard_by,
    possible_edges,
    readers,
    writers,
)
from helpers.edges.writes import writes
from helpers.head_scores import attention_scores, kind_offsets
from helpers.ioi.prompts import ioi_task
from helpers.logit_diff import (
    LogitDiff,
    logit_diff,
    logit_diff_directions,
    residual_stack_to_logit_diff,
)
from helpers.padding import PaddedTokens
from helpers.patching import patch_sweep
from helpers.path_patching import path_patch_sweep
from helpers.processing import process_weights
from helpers.readout import check_heads
from tests.edges_by_hooks import edge_by_hooks
from tests.tiny_models import VOCAB, bridge

TABLE = Path(__file__).parents[1] / "helpers" / "ARCHITECTURES.md"

# By whatever name an architecture has for it: of each configuration, the names that it knows are set.
SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **{"qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8},
    **{"num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4, "num_experts_per_tok": 2},
    **{
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "moe_shared_expert_size": 16,
    },
    **{"vocab_size": VOCAB, "initializer_range": 0.3, "tie_word_embeddings": False},
    # What trained models of these kinds have and a default configuration leaves at 1.
    **{"logits_scaling": 4.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0},
}
LATENT = {"num_key_value_heads": 4, "head_dim": 4}  # head_dim is that of the rotated part
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
OVERRIDES: dict[str, dict[str, Any]] = {
    "DeepseekV2ForCausalLM": {"n_group": 1, "topk_group": 1, **LATENT},
    "DeepseekV3ForCausalLM": {"n_group": 1, "topk_group": 1, **LATENT},
    "Glm4MoeLiteForCausalLM": LATENT,
    "GPTNeoForCausalLM": {"attention_types": [[["global"], 2]]},
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"]},
    "JambaForCausalLM": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "OlmoHybridForCausalLM": MIXED,
    "PhiForCausalLM": {"num_key_value_heads": 4, "partial_rotary_factor": 0.5},
    "Qwen3NextForCausalLM": MIXED,
    "RecurrentGemmaForCausalLM": {"num_hidden_layers": 3},  # the third is its first with attention
    "YoutuForCausalLM": LATENT,
}
RENAMED = {"GPT2LMHeadModel": "gpt2", "LlamaForCausalLM": "llama"}  # several kinds share these classes

# What cannot be built at this size by setting sizes, and why.
NOT_BUILT = {
    **dict.fromkeys(
        ("BambaForCausalLM", "FalconH1ForCausalLM", "GraniteMoeHybridForCausalLM", "Zamba2ForCausalLM"),
        "mixes attention with state-space layers, whose sizes hang together",
    ),
    **dict.fromkeys(("Mamba2ForCausalLM",), "state-space layers only: no attention heads"),
    **dict.fromkeys(
        (
            "Gemma3ForConditionalGeneration",
            "Gemma4ForConditionalGeneration",
            "Gemma4UnifiedForConditionalGeneration",
            "Gemma3nForConditionalGeneration",
            "Llama4ForCausalLM",
            "Qwen3_5ForCausalLM",
            "Qwen3_5MoeForCausalLM",
        ),
        "its configuration nests one for pictures or text, of full size",
    ),
    **dict.fromkeys(("Gemma4ForCausalLM", "GlmMoeDsaForCausalLM"), "some sizes of it cannot be set"),
    "Lfm2MoeForCausalLM": "its configuration needs a list of layer types",
}

TOKENS = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])
SOURCE = torch.tensor([[0, 5, 9, 3, 5, 30], [0, 7, 7, 12, 41, 2]])
ANSWERS = torch.tensor([[4, 8], [8, 4]])
REPEATED = torch.tensor([[1, 9, 4, 7, 1, 9, 4, 7], [3, 8, 2, 5, 3, 8, 2, 5]])
CLOSE = {"atol": 2e-4, "rtol": 2e-3}
# Of a central difference: the square of the step, and float32's rounding over it.
STEP = 1e-2
SLOPES = {"atol": 1e-3, "rtol": 2e-2}


class Tiny(NamedTuple):
    """A model as TransformerLens wraps it, and the same by transformers alone."""

    model: TransformerBridge
    alone: PreTrainedModel


def _model_types() -> dict[str, str]:
    """By architecture, the model type whose configuration builds it."""
    found: dict[str, str] = {}
    for model_type, classes in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        for name in (classes,) if isinstance(classes, str) else classes:
            found.setdefault(name, model_type)
    return found | RENAMED


MODEL_TYPES = _model_types()
CAUSAL = [name for name in SUPPORTED_ARCHITECTURES if name in MODEL_TYPES]
BUILT = [name for name in CAUSAL if name not in NOT_BUILT]


def tiny_hf(architecture: str) -> PreTrainedModel:
    """Two layers of four heads, norm weights and biases that are not constants."""
    model_type = MODEL_TYPES[architecture]
    plain = AutoConfig.for_model(model_type)
    known = set(plain.to_dict()) | set(plain.attribute_map)
    wanted = {name: size for name, size in SIZES.items() if name in known}
    config = AutoConfig.for_model(model_type, **wanted | OVERRIDES.get(architecture, {}))
    config._attn_implementation = "eager"
    config.architectures = [architecture]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            is_norm = "norm" in name or "ln" in name
            torch.nn.init.normal_(parameter, mean=float(is_norm), std=0.3)
    return model


def tiny(architecture: str) -> Tiny:
    """Processed as `load_model` does; NotImplementedError or RuntimeError if it cannot be."""
    alone = tiny_hf(architecture)
    model = bridge(copy.deepcopy(alone), compatible=False)
    with warnings.catch_warnings():
        # TransformerLens's, that norms stay which the helpers then apply.
        warnings.filterwarnings("ignore", ".*does not support (fold_ln|center)")
        process_weights(model)
    return Tiny(model, alone)


# --- oracles: the model itself ---------------------------------------------------------------------


def hooked(model: TransformerBridge, tokens: Tensor, hooks: dict[str, Callable]) -> Tensor:
    """Logit differences of the model with functions at hooks; each is called once."""
    filtered = [({name}.__contains__, function) for name, function in hooks.items()]
    return logit_diff(model.run_with_hooks(tokens, fwd_hooks=filtered), ANSWERS, per_prompt=True)


def biases(model: TransformerBridge) -> Tensor:
    """What belongs to no component: logit differences of a stream that is zero, its scale being 1."""
    width = {"device": model.cfg.device, "dtype": torch.float32}
    nothing = torch.zeros(*TOKENS.shape, model.cfg.d_model, **width)
    return through_the_end(model, nothing, torch.ones(*TOKENS.shape, 1))


def through_the_end(model: TransformerBridge, final: Tensor, scale: Tensor) -> Tensor:
    """The model's own logit differences for another final stream, the last norm's scale being given."""
    last = get_act_name("resid_post", model.cfg.n_layers - 1)
    hooks = {last: lambda x, hook: final, "ln_final.hook_scale": lambda x, hook: scale}
    norm = model.ln_final.original_component
    if hasattr(norm, "weight"):
        return hooked(model, TOKENS, hooks)
    # OLMo's has none, which TransformerLens reads where a hook changes the scale.
    with mock.patch.object(norm, "weight", torch.ones(()), create=True):
        return hooked(model, TOKENS, hooks)


def from_cache(make: Callable[[], Tensor]) -> Tensor:
    """Parts as TransformerLens's cache stacks them, which it may not have of this model."""
    try:
        return make()
    except KeyError as error:
        raise NotImplementedError(f"TransformerLens's cache has no {error} of this model.") from error
    except RuntimeError as error:
        raise NotImplementedError(f"TransformerLens's cache cannot stack them: {error}.") from error


def attribution(case: Tiny) -> None:
    """The parts that a cache splits the stream into sum to the logit difference of the model alone."""
    model, alone = case
    _, cache = model.run_with_cache(TOKENS)
    stack = from_cache(lambda: cache.decompose_resid(layer=-1, pos_slice=-1))
    directions = logit_diff_directions(model, ANSWERS)
    ours = residual_stack_to_logit_diff(stack, cache, directions, per_prompt=True).sum(0)
    theirs = logit_diff(alone(TOKENS).logits, ANSWERS, per_prompt=True)
    torch.testing.assert_close(ours + biases(model), theirs, **CLOSE)


def lens(case: Tiny) -> None:
    """Streams before and after blocks, each as the end of the model reads it."""
    model = case.model
    _, cache = model.run_with_cache(TOKENS)
    stack = from_cache(lambda: cache.accumulated_resid(layer=-1, pos_slice=-1))
    directions = logit_diff_directions(model, ANSWERS)
    ours = residual_stack_to_logit_diff(stack, cache, directions, per_prompt=True)
    streams = [cache["resid_pre", layer] for layer in range(model.cfg.n_layers)]
    streams.append(cache["resid_post", model.cfg.n_layers - 1])
    scale = cache["ln_final.hook_scale"]
    theirs = torch.stack([through_the_end(model, s, scale) for s in streams]) - biases(model)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    whole = logit_diff(case.alone(TOKENS).logits, ANSWERS, per_prompt=True)
    torch.testing.assert_close(ours[-1] + biases(model), whole, **CLOSE)


def direct_effect(model: TransformerBridge, layer: int, head: int) -> Tensor:
    """What the end of the model reads in what a head adds to attn_out, found by silencing it."""
    _, cache = model.run_with_cache(TOKENS)
    written: dict[str, Tensor] = {}

    def silence(z: Tensor, hook: Any) -> Tensor:
        z = z.clone()
        z[:, :, head] = 0
        return z

    name = get_act_name("attn_out", layer)
    hooks = {get_act_name("z", layer): silence, name: lambda x, hook: written.update(out=x.clone())}
    hooked(model, TOKENS, hooks)
    final = cache["resid_post", model.cfg.n_layers - 1]
    without = final - (cache[name] - written["out"])
    scale = cache["ln_final.hook_scale"]
    return through_the_end(model, final, scale) - through_the_end(model, without, scale)


def heads(case: Tiny) -> None:
    """What a head writes to the logit difference directly."""
    model = case.model
    _, cache = model.run_with_cache(TOKENS)
    stack = from_cache(lambda: cache.stack_head_results(layer=-1, pos_slice=-1))
    directions = logit_diff_directions(model, ANSWERS)
    ours = residual_stack_to_logit_diff(stack, cache, directions, per_prompt=True)
    ours = ours.unflatten(0, (model.cfg.n_layers, -1))
    for layer in range(model.cfg.n_layers):
        torch.testing.assert_close(ours[layer, 1], direct_effect(model, layer, 1), **CLOSE)


def atlas(case: Tiny) -> None:
    """The same, as the atlas measures it; it averages a pair of prompts."""
    prompts = ioi_task(
        prompts=["", ""],
        corrupted_prompts=["", ""],
        answers=[("a", "b"), ("b", "a")],
        tokens=TOKENS,
        corrupted_tokens=SOURCE,
        answer_tokens=ANSWERS,
        str_tokens=[["w"] * TOKENS.shape[1]] * 2,
    )
    check_heads(case.model)  # as build_atlas does before any direct score
    ours = attention_and_attribution(case.model, prompts)["ioi_attribution"].value
    for layer in range(case.model.cfg.n_layers):
        theirs = direct_effect(case.model, layer, 1).mean()
        torch.testing.assert_close(ours[layer, 1], theirs, **CLOSE)


def sweep(site: str, case: Tiny) -> None:
    """A head's output or a stream of another run, layer by layer, against the whole model run again."""
    model = case.model
    metric = LogitDiff(ANSWERS, per_prompt=True)
    ours = patch_sweep(model, TOKENS, SOURCE, site, metric, by_position=False)
    ours = ours if ours.ndim == 2 else ours[:, 1]
    _, cache = model.run_with_cache(SOURCE)
    for layer in range(model.cfg.n_layers):

        def patch(x: Tensor, hook: Any, layer: int = layer) -> Tensor:
            if site != "z":
                return cache[site, layer]
            x = x.clone()
            x[:, :, 1] = cache["z", layer][:, :, 1]
            return x

        theirs = hooked(model, TOKENS, {get_act_name(site, layer): patch})
        torch.testing.assert_close(ours[layer], theirs, **CLOSE)


def paths(case: Tiny) -> None:
    """A head of the first layer heard by the values of one in the last, in two whole runs."""
    model, layer, head = case.model, case.model.cfg.n_layers - 1, 1
    metric = LogitDiff(ANSWERS, per_prompt=True)
    ours = path_patch_sweep(model, TOKENS, SOURCE, (layer, head), "v", metric)[0, 1]
    (_, base), (_, source) = (model.run_with_cache(tokens) for tokens in (TOKENS, SOURCE))
    change = (source["z", 0] - base["z", 0])[:, :, 1] @ model.blocks[0].attn.W_O[1]
    heard: dict[str, Tensor] = {}
    hooks = {
        get_act_name("resid_pre", layer): lambda x, hook: x + change,
        get_act_name("v", layer): lambda x, hook: heard.update(v=x.clone()),
    }
    hooked(model, TOKENS, hooks)

    def only_the_receiver(z: Tensor, hook: Any) -> Tensor:
        mixed = base["z", layer].clone()
        mixed[:, :, head] = z[:, :, head]
        return mixed

    hooks = {
        get_act_name("v", layer): lambda x, hook: heard["v"],
        get_act_name("z", layer): only_the_receiver,
    }
    torch.testing.assert_close(ours, hooked(model, TOKENS, hooks), **CLOSE)


def estimated_sweep(case: Tiny) -> None:
    """A head's gradient, against a small step of it and one back, of the whole model."""
    model, metric = case.model, LogitDiff(ANSWERS, per_prompt=True)
    unpatched = metric(model(TOKENS)[:, -1])
    ours = attribution_sweep(model, TOKENS, SOURCE, "z", metric)[:, 1] - unpatched
    (_, base), (_, source) = (model.run_with_cache(tokens) for tokens in (TOKENS, SOURCE))
    for layer in range(model.cfg.n_layers):
        change = (source["z", layer] - base["z", layer])[:, :, 1]

        def moved(share: float, layer: int = layer, change: Tensor = change) -> Tensor:
            def move(z: Tensor, hook: Any) -> Tensor:
                z = z.clone()
                z[:, :, 1] += share * change
                return z

            return hooked(model, TOKENS, {get_act_name("z", layer): move})

        torch.testing.assert_close(ours[layer], slope(moved), **SLOPES)


def slope(moved: Callable[[float], Tensor]) -> Tensor:
    """A central difference."""
    return (moved(STEP) - moved(-STEP)) / (2 * STEP)


def some_edges(model: TransformerBridge) -> list[tuple[Writer, Reader]]:
    """From the embeddings, a head and an MLP into a reader of each kind."""
    last = model.cfg.n_layers - 1
    into = [*(Reader(last, 1, through) for through in ("q", "k", "v")), Reader(0, None, "mlp")]
    into += [Reader(last, None, "mlp"), Reader(last + 1, None, "logits")]
    pairs = [(writer, reader) for reader in into for writer in (Writer(-1), Writer(0, 1), Writer(0))]
    return [(w, r) for w, r in pairs if writers(model).index(w) < heard_by(model, r)]


def exact_edges(case: Tiny) -> None:
    """Some edges, with plain hooks."""
    model, metric = case.model, LogitDiff(ANSWERS, per_prompt=True)
    into = list(dict.fromkeys(reader for _, reader in some_edges(model)))
    found = dict(zip(into, edge_sweep(model, TOKENS, SOURCE, into, metric), strict=True))
    for writer, reader in some_edges(model):
        theirs = edge_by_hooks(model, TOKENS, SOURCE, writer, reader, metric)
        torch.testing.assert_close(found[reader][writers(model).index(writer)], theirs, **CLOSE)


def estimated_edges(case: Tiny) -> None:
    """The same edges, a small step and one back."""
    model, metric = case.model, LogitDiff(ANSWERS, per_prompt=True)
    ours = edge_attribution(model, TOKENS, SOURCE, metric) - metric(model(TOKENS)[:, -1])
    for writer, reader in some_edges(model):

        def moved(share: float, writer: Writer = writer, reader: Reader = reader) -> Tensor:
            return edge_by_hooks(model, TOKENS, SOURCE, writer, reader, metric, share=share)

        found = ours[readers(model).index(reader), writers(model).index(writer)]
        torch.testing.assert_close(found, slope(moved), **SLOPES)


def circuits_of_edges(case: Tiny) -> None:
    """All edges are the model, none is the reference, and all but one is that path, patched."""
    model, metric, every = case.model, LogitDiff(ANSWERS, per_prompt=True), possible_edges(case.model)
    reference = writes(model, TOKENS)
    for kept, tokens in ((every, SOURCE), (~every, TOKENS)):
        ours = with_only_edges(model, SOURCE, kept, reference, metric)
        torch.testing.assert_close(ours, metric(model(tokens)[:, -1]), **CLOSE)
    for writer, reader in some_edges(model)[::2]:
        kept = every & ~edge_mask(model, [Edge(writer, reader, 0.0)])
        ours = with_only_edges(model, SOURCE, kept, reference, metric)
        theirs = edge_by_hooks(model, SOURCE, TOKENS, writer, reader, metric)
        torch.testing.assert_close(ours, theirs, **CLOSE)


def scores(case: Tiny) -> None:
    """Head scores, from the attention that transformers itself returns."""
    ours = attention_scores(case.model, REPEATED)
    patterns = case.alone(REPEATED, output_attentions=True).attentions
    for layer, pattern in enumerate(patterns):
        for kind, offset in kind_offsets(4).items():
            theirs = pattern.diagonal(-offset, dim1=-2, dim2=-1).mean((0, 2))
            torch.testing.assert_close(ours[kind][layer], theirs, **CLOSE)


def padding(case: Tiny) -> None:
    """Prompts of three lengths in one batch, each as the model gives it alone."""
    rows = [[0, 5, 9, 12, 5, 30, 8], [0, 7, 3], [0, 7, 7, 3, 41]]
    ours = PaddedTokens.of_rows(rows, "cpu").final_logits(case.model).softmax(-1)
    theirs = torch.cat([case.alone(torch.tensor([row])).logits[:, -1] for row in rows]).softmax(-1)
    torch.testing.assert_close(ours, theirs, **CLOSE)


CHECKS: dict[str, Callable[[Tiny], None]] = {
    "attribution of layers": attribution,
    "of heads": heads,
    "logit lens": lens,
    "sweep of `resid_pre`": partial(sweep, "resid_pre"),
    "sweep of `z`": partial(sweep, "z"),
    "path patching": paths,
    "estimates at `z`": estimated_sweep,
    "edges": exact_edges,
    "estimates of edges": estimated_edges,
    "circuits of edges": circuits_of_edges,
    "head scores": scores,
    "atlas, direct effects": atlas,
    "padded prompts": padding,
}


class Outcome(NamedTuple):
    """``agrees``, or ``refuses`` and why."""

    result: str
    reason: str = ""


@torch.no_grad()
def outcome(check: Callable[[Tiny], None], case: Tiny) -> Outcome:
    """What becomes of a check; an AssertionError where a helper is wrong.

    Only what the helpers raise on purpose is a refusal.
    """
    try:
        check(case)
    except (NotImplementedError, ValueError) as error:
        return Outcome("refuses", str(error))
    return Outcome("agrees")


def outcomes(architecture: str) -> dict[str, Outcome]:
    """Of every check, or of loading alone where that is refused."""
    try:
        case = tiny(architecture)
    except (NotImplementedError, RuntimeError) as error:  # the latter TransformerLens's own
        return {LOADING: Outcome("refuses", str(error))}
    return {name: outcome(check, case) for name, check in CHECKS.items()}


def row(architecture: str, found: dict[str, Outcome]) -> str:
    """A line of the table."""
    loaded = {LOADING: found.get(LOADING, Outcome("agrees"))}
    cells = [(loaded | found)[name].result if name in loaded | found else "–" for name in COLUMNS]
    return f"| {' | '.join([architecture, *cells])} |"


LOADING = "loading"
COLUMNS = (LOADING, *CHECKS)
HEADER = """# What works on which architecture

Written by `python -m tests.architectures`, and checked row by row by the tests: on a tiny random model
of every architecture that TransformerLens adapts and transformers can build small, with norm weights
that are not all ones. *agrees*: the helper gives what the model itself gives when it is run (direct
effects, the last norm's scale frozen). *refuses*: it stops with an error that says why and what to do.
A name is the architecture of a model's `config.json`.

"""


def table() -> str:
    names = ["architecture", *COLUMNS]
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    lines += [row(architecture, outcomes(architecture)) for architecture in sorted(BUILT)]
    rest = ["", "Not tried:", "", *(f"- {name}: {why}." for name, why in sorted(NOT_BUILT.items()))]
    others = sorted(set(SUPPORTED_ARCHITECTURES) - set(CAUSAL))
    rest += ["- No causal language model of transformers' own: " + ", ".join(others) + "."]
    return HEADER + "\n".join(lines + rest) + "\n"


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    sys.stdout.write(str(TABLE.write_text(table(), encoding="utf-8")) + "\n")
