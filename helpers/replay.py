"""Replaying a model from a stored base run: the machinery under activation and path patching.

It is the model's own forward pass that runs, fed a single prompt: hooks swap in a growing batch of
patched residual streams, masks and position embeddings broadcast to it, and no block's signature
matters. What is the same in all patched runs comes from the base run:

- the keys and values of positions before the patch (:class:`PrefixCache`);
- the residual stream below the patched layer: at each block the batch gains a copy of it for every
  patch in that block (:func:`run_patched`);
- what comes after the last attention is computed for the final position only, which alone is
  unembedded, and only to the answer tokens if the metric is a
  :class:`~helpers.logit_diff.LogitDiff` or a :class:`~helpers.answers.GroupDiff` (:func:`measure`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name
from transformers import DynamicCache

from helpers.answers import AnswerMetric
from helpers.logit_diff import LogitDiff
from helpers.precision import in_float, precision_of, rounding_of
from helpers.readout import final_readout
from helpers.work import noting

Metric = Callable[[Float[Tensor, "batch vocab"]], Tensor]
Activations = dict[int, Tensor]  # of one site, by layer
Cell = tuple[int, int | slice | None]  # layer, and head (or heads) at the sites that have heads
Hook = tuple[set[str], Callable[..., Tensor | None]]  # names of the hook points, function


@dataclass(frozen=True)
class BaseRun:
    """What the patched runs share with the unpatched one."""

    tokens: Int[Tensor, "batch position"]
    resid_pre: dict[int, Float[Tensor, "batch position d_model"]]
    cache: DynamicCache
    final: Float[Tensor, "batch d_model"]  # leaving the last block at the final position
    logits: Float[Tensor, " vocab"]  # of the first prompt, by the model itself


class PrefixCache(DynamicCache):
    """The base run's keys and values before a position, given to every copy of its prompts."""

    def __init__(self, full: DynamicCache, length: int):
        super().__init__()
        for layer, kept in enumerate(full.layers):
            super().update(kept.keys[..., :length, :], kept.values[..., :length, :], layer)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The prefix followed by what is new, which is not stored."""
        prefix = self.layers[layer_idx]
        return _after(prefix.keys, key_states), _after(prefix.values, value_states)


def _after(
    prefix: Float[Tensor, "batch head before d"], new: Float[Tensor, "row head position d"]
) -> Tensor:
    """The prefix of each prompt, followed by what each copy of the prompt has of its own."""
    shared = prefix[: len(new)]  # Below the first patched layer there is a single row.
    before = prefix.shape[-2]
    whole = new.new_empty(*new.shape[:2], before + new.shape[-2], new.shape[-1])
    whole[..., :before, :].unflatten(0, (-1, len(shared)))[:] = shared
    whole[..., before:, :] = new
    return whole


def run_base(
    model: TransformerBridge, tokens: Int[Tensor, "batch position"], also: Sequence[Hook] = ()
) -> BaseRun:
    resid_pre: Activations = {}
    cache = DynamicCache()
    hook_names = hook_names_of(model, "resid_pre", range(model.cfg.n_layers))
    with as_refusal(
        f"{model.cfg.model_name} cannot be patched at any site here: its forward pass does not run with "
        "a plain cache of keys and values, and a single row after the last block"
    ):
        final, logits = forward(model, tokens, [keep(resid_pre, hook_names), *also], cache)
    if len(cache.layers) != model.cfg.n_layers or any(layer.keys is None for layer in cache.layers):
        raise NotImplementedError(
            f"{model.cfg.model_name} does not keep keys and values of every layer, from which this "
            "project replays runs (some of its layers may be recurrent); use transformer_lens.patching."
        )
    return BaseRun(tokens, resid_pre, cache, final, logits)


def run_patched(
    model: TransformerBridge,
    base: BaseRun,
    values: Sequence[Float[Tensor, "batch column ..."]],
    site: str,
    cells: Sequence[Cell],
    columns: Sequence[int],
    tick: Callable[[], object] = lambda: None,
) -> Float[Tensor, "cell batch d_model"]:
    """Residual stream leaving the last block at the final position, for each patch on its own.

    Cells come in order of layer, each with the values it takes at ``columns``, the positions patched,
    ascending.
    """
    start, bottom, batch = columns[0], cells[0][0], len(base.tokens)
    patches_at: dict[int, list[tuple[int | slice | None, Tensor]]] = defaultdict(list)
    for (layer, head), value in zip(cells, values, strict=True):
        patches_at[layer].append((head, value))

    def grow(resid: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        tick()
        if layer < bottom:
            return resid
        new = base.resid_pre[layer][:, start:].repeat(len(patches_at.get(layer, [])), 1, 1)
        return new if layer == bottom else torch.cat([resid, new])

    def patch(activation: Tensor, hook: Any) -> Tensor:
        patches = patches_at[hook.layer()]
        newest = activation[-len(patches) * batch :].unflatten(0, (len(patches), batch))
        # In place: a block adds its input, not what its hooks return, to the residual stream.
        for copy, (head, value) in zip(newest, patches, strict=True):
            copy[at_columns(site, [column - start for column in columns], head)] = value
        return activation

    hooks: list[Hook] = [
        (hook_names_of(model, "resid_pre", range(model.cfg.n_layers)), grow),
        (hook_names_of(model, site, patches_at), patch),
    ]
    if site != "mlp_out":
        hooks += _last_mlp_at_final_position(model)
    cache = PrefixCache(base.cache, start)
    final, _ = forward(model, base.tokens[:1, start:], hooks, cache)
    return final.unflatten(0, (len(cells), batch))


def forward(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch position"],
    hooks: Sequence[Hook],
    cache: DynamicCache | None = None,
) -> tuple[Float[Tensor, "row d_model"], Float[Tensor, " vocab"]]:
    """Run up to the last block: its output at the final position, and the first prompt's logits."""
    final: list[Tensor] = []

    def cut(resid: Tensor, hook: Any) -> Tensor:
        final.append(resid[:, -1].clone())
        return resid[:1]  # What comes after need not unembed every row.

    top = hook_names_of(model, "resid_post", [model.cfg.n_layers - 1])
    # TransformerBridge calls a named hook once for each alias, a filtered one only once.
    filtered = [(names.__contains__, function) for names, function in [*hooks, (top, cut)]]
    with model.hooks(fwd_hooks=filtered):
        logits = model(tokens, past_key_values=cache)
    if not final:
        raise NotImplementedError(
            f"{model.cfg.model_name} never comes to the end of its last block as this project knows it "
            f"({', '.join(sorted(top))}); use transformer_lens.patching."
        )
    return final[0], logits[0, -1]


def receiver_inputs(
    model: TransformerBridge,
    base: BaseRun,
    resid: Float[Tensor, "row position d_model"],
    through: str,
    layer: int,
    first: int,
) -> Float[Tensor, "row position head d_head"]:
    """Queries, keys or values of a layer, for given residual streams before it."""
    heard: Activations = {}
    hooks = [
        (hook_names_of(model, "resid_pre", [layer]), lambda _, hook: resid),
        keep(heard, hook_names_of(model, through, [layer])),
        # Nothing above this layer is wanted: go on with a single row.
        (hook_names_of(model, "resid_post", [layer]), lambda resid, hook: resid[:1]),
    ]
    forward(model, base.tokens[:1, first:], hooks, PrefixCache(base.cache, first))
    return heard[layer]


def run_receiver(
    model: TransformerBridge,
    base: BaseRun,
    base_z: Float[Tensor, "batch position head d_head"],
    inputs: Float[Tensor, "row position head d_head"],
    through: str,
    receiver: tuple[int, int],
    first: int,
) -> Float[Tensor, "row d_model"]:
    """Final residual stream when one head, and no other, gets the given queries, keys or values."""
    layer, head = receiver
    copies = len(inputs) // len(base.tokens)
    shared = model.cfg.n_heads // inputs.shape[2]  # query heads to each key or value

    def hear(activation: Tensor, hook: Any) -> Tensor:
        activation[:, :, head // shared] = inputs[:, :, head // shared]
        return activation

    def others_unchanged(z: Tensor, hook: Any) -> Tensor:
        result = base_z[:, first:].repeat(copies, 1, 1, 1)
        result[:, :, head] = z[:, :, head]
        return result

    hooks = [
        (
            hook_names_of(model, "resid_pre", [layer]),
            lambda _, hook: base.resid_pre[layer][:, first:].repeat(copies, 1, 1),
        ),
        (hook_names_of(model, through, [layer]), hear),
        (hook_names_of(model, "z", [layer]), others_unchanged),
    ]
    final, _ = forward(model, base.tokens[:1, first:], hooks, PrefixCache(base.cache, first))
    return final


def _last_mlp_at_final_position(model: TransformerBridge) -> list[Hook]:
    """No head comes after the last MLP, so that other positions need not go through it.

    What it returns is added to all positions: rightly at the final one, and no other is read.
    """
    name = f"blocks.{model.cfg.n_layers - 1}.mlp.hook_in"
    point = model.hook_dict.get(name)
    if point is None or point.hook_conversion is not None:  # OPT: prompts and positions on one axis
        return []
    return [({name}, lambda activation, hook: activation[:, -1:])]


def keep(store: Activations, names: set[str]) -> Hook:
    def keep(activation: Tensor, hook: Any) -> None:
        store[hook.layer()] = activation

    return names, keep


def hook_names_of(model: TransformerBridge, site: str, layers: Iterable[int]) -> set[str]:
    names = {get_act_name(site, layer) for layer in layers}
    if missing := names - model.hook_dict.keys():
        raise ValueError(f"{model.cfg.model_name} has no {', '.join(sorted(missing))}.")
    return names


def at_columns(site: str, columns: Sequence[int], head: int | slice | None) -> tuple[Any, ...]:
    """Where a site keeps some positions of a head."""
    if site == "pattern":
        return (slice(None), head, columns)  # batch head destination source
    return (slice(None), columns) if head is None else (slice(None), columns, head)


def measure(
    model: TransformerBridge,
    metric: Metric,
    final: Float[Tensor, "cell batch d_model"],
    where: Callable[[int], str] = "patch {}".format,
) -> Float[Tensor, "cell ..."]:
    """The metric of each patched run, from its residual stream at the final position.

    Logits are given to the metric in float32, or float64 for such a model. An error of the metric's own
    is noted with ``where``, of the run's number.
    """
    readout = final_readout(model)
    normed = model.ln_final(final)
    if isinstance(metric, AnswerMetric):
        shape = metric.answer_tokens.shape
        answers = metric.answer_tokens.flatten(1).clamp(min=0).to(final.device)
        weights = in_float(model.unembed.W_U.T[answers])  # batch answer d_model
        logits = torch.einsum("cbd,bad->cba", in_float(normed), weights)
        logits = readout.finish(logits + in_float(model.unembed.b_U[answers]))
        return torch.stack([metric.of_answers(of_cell.reshape(shape)) for of_cell in logits])
    bytes_a_cell = normed.shape[1] * model.cfg.d_vocab * normed.element_size()
    values: list[Tensor] = []
    for some in normed.split(max(1, 2**27 // bytes_a_cell)):
        logits = readout.finish(in_float(model.unembed(some)))
        for of_cell in logits:
            with noting(partial(where, len(values))):
                values.append(torch.as_tensor(metric(of_cell)))
    return torch.stack(values)


def prompts_at_once(model: TransformerBridge, length: int, start: int) -> int:
    """How many suffixes take about half a gigabyte, going by a block's largest activations.

    On a CPU no more than take seconds, so that work can be shared out; there larger batches gain little.
    """
    cfg = model.cfg
    d_mlp = cfg.d_mlp or 4 * cfg.d_model
    attention = 3 * cfg.n_heads * length
    per_position = 8 * cfg.d_model + 3 * d_mlp + attention
    keys_and_values = 4 * cfg.n_heads * cfg.d_head * length
    per_prompt = (length - start) * per_position + keys_and_values
    fit = 2**29 // (per_prompt * precision_of(model).itemsize)
    if torch.device(cfg.device).type != "cpu":
        return fit
    operations = 2 * cfg.n_layers * cfg.d_model * (4 * cfg.d_model + 3 * d_mlp) * (length - start)
    return min(fit, 2**38 // operations)


def check_model(model: TransformerBridge) -> None:
    if model.training:
        raise ValueError("The model is in training mode: call model.eval() first.")
    hooked = sorted(
        {point.name for point in model.hook_dict.values() if point.has_hooks(including_permanent=False)}
    )
    if hooked:
        raise ValueError(f"The model has hooks ({', '.join(hooked)}): call model.reset_hooks().")
    if model.cfg.attention_dir != "causal":
        raise NotImplementedError(f"{model.cfg.model_name} is not causal, which replaying relies on.")
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) > 1 or "meta" in devices:
        raise NotImplementedError(
            f"{model.cfg.model_name} is spread out over {', '.join(devices)} (meta: in memory that is "
            "not the device's, or on disk), and sweeps replay runs on one device. Load it on one, in "
            "half precision if need be; or patch with hooks (transformer_lens.patching), slower."
        )


def first_difference(base: Int[Tensor, "batch position"], source: Int[Tensor, "batch position"]) -> int:
    """The first position at which any prompt differs; :func:`check_tokens` has seen that one does."""
    return int((base != source.to(base.device)).any(0).nonzero()[0])


def side_by_side(model: TransformerBridge) -> bool:
    """Whether attention and MLP of a layer read the same stream, so that neither hears the other."""
    return get_act_name("resid_mid", 0) not in model.hook_dict


def check_tokens(base: Tensor, source: Tensor) -> None:
    if base.ndim != 2 or base.shape != source.shape:
        shapes = f"{tuple(base.shape)} and {tuple(source.shape)}"
        raise ValueError(f"The runs must have one shape, [batch, position]; they have {shapes}.")
    if torch.equal(base, source):
        raise ValueError("The base and source prompts are the same: no position differs.")


def check_replay(model: TransformerBridge, base: BaseRun, first: int) -> None:
    """Refuse a model for which a patch that changes nothing would change the result."""
    unchanged = base.resid_pre[0][:, [first]]
    replayed = _tried(model, base, [unchanged], "resid_pre", (0, None), [first], "at any site")
    unembedded = in_float(model.unembed(model.ln_final(base.final[:1]))[0])
    logits = final_readout(model).finish(unembedded).to(base.logits)
    if not (_alike(replayed[0], base.final) and _alike(logits, base.logits)):
        raise NotImplementedError(
            f"{model.cfg.model_name} does more between its blocks, or after unembedding, than "
            "helpers.replay repeats; use transformer_lens.patching."
        )


def checked_base(
    model: TransformerBridge, tokens: Int[Tensor, "batch position"], site: str, layer: int, first: int
) -> BaseRun:
    """The run to patch, once it is known that it can be patched at this site.

    The higher the layer at which the site is tried, the less there is to run.
    """
    own: Activations = {}
    tokens = tokens.to(model.cfg.device)
    base = run_base(model, tokens, [keep(own, hook_names_of(model, site, [layer]))])
    check_replay(model, base, first)
    check_site(model, base, site, layer, own[layer], first)
    return base


_OTHER_SITES = (
    "Choose another site: each is checked before its sweep, and the residual stream before and after a "
    "block (resid_pre, resid_post), attn_out and z work on most models."
)


def check_site(
    model: TransformerBridge, base: BaseRun, site: str, layer: int, own: Tensor, first: int
) -> None:
    """Refuse a site at which a patch would not do what it should.

    The base run's own activation must change nothing there, and another one something.

    Args:
        own: the site's activation in the base run, at this layer.
    """
    length = base.tokens.shape[1]
    if not _positions_come_second(model, base, site, layer, own):
        raise NotImplementedError(
            f"{model.cfg.model_name} does not keep [batch, position, head, …] at {site!r}; one batch of "
            f"{len(base.tokens)} prompts of {length} tokens is {tuple(own.shape)} there. {_OTHER_SITES}"
        )
    columns = list(range(first, length))
    heads = slice(None) if own.ndim == 4 else None
    unchanged = own[at_columns(site, columns, heads)]
    values = [unchanged, -8 * unchanged]
    same, other = _tried(model, base, values, site, (layer, heads), columns, f"at {site!r}")
    if not _alike(same, base.final):
        raise NotImplementedError(
            f"{model.cfg.model_name} is not the same with its own activation put back at {site!r}. "
            f"{_OTHER_SITES}"
        )
    # A query or key has nothing to choose from where there is a single position.
    matters = length > 1 or site not in ("q", "k")
    if matters and (other - same).norm() <= 8 * rounding_of(same.dtype) * same.norm():
        raise NotImplementedError(
            f"{model.cfg.model_name} goes on without what a hook puts at {site!r}: a patch there has no "
            f"effect, in transformer_lens.patching neither. {_OTHER_SITES}"
        )


def _positions_come_second(
    model: TransformerBridge, base: BaseRun, site: str, layer: int, own: Tensor
) -> bool:
    """And heads third: in latent attention (DeepSeek) it is the other way round for values."""
    length = base.tokens.shape[1]
    if site == "pattern" or own.ndim != 4 or own.shape[1:3] == (1, 1):
        return True
    if own.shape[1] != own.shape[2]:
        return own.shape[1] == length
    shorter: Activations = {}  # as many heads as positions: one position less tells them apart
    forward(model, base.tokens[:1, :-1], [keep(shorter, hook_names_of(model, site, [layer]))])
    return shorter[layer].shape[1] == length - 1


def _tried(
    model: TransformerBridge,
    base: BaseRun,
    values: Sequence[Tensor],
    site: str,
    cell: Cell,
    columns: Sequence[int],
    where: str,
) -> Float[Tensor, "cell batch d_model"]:
    """``run_patched``, with a clear error if the model does not take a batch that grows on its way."""
    beside = "" if where == "at any site" else f" {_OTHER_SITES}"
    with as_refusal(
        f"{model.cfg.model_name} cannot be patched {where} here: its forward pass does not take a batch "
        "that grows from block to block",
        beside,
    ):
        return run_patched(model, base, values, site, [cell] * len(values), columns)


@contextmanager
def as_refusal(what: str, beside: str = "") -> Iterator[None]:
    """Says of an error in a model's own code what it means here."""
    try:
        yield
    except (torch.OutOfMemoryError, NotImplementedError):
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise NotImplementedError(
            f"{what} ({reason}).{beside} transformer_lens.patching, slower, runs one batch a patch."
        ) from error


def _alike(ours: Tensor, models: Tensor) -> bool:
    return bool((ours - models).norm() <= rounding_of(ours.dtype) ** 0.5 * models.norm())


def unpatched_metric(model: TransformerBridge, metric: Metric, base: BaseRun) -> Tensor:
    """The metric of the base run, checked to be one."""
    batch = len(base.tokens)
    if isinstance(metric, AnswerMetric):
        shape = tuple(metric.answer_tokens.shape)
        if shape[:2] != (batch, 2) or len(shape) != (2 if isinstance(metric, LogitDiff) else 3):
            raise ValueError(
                "answer_tokens must hold two tokens for each prompt, the right and the wrong one, or "
                f"two groups of them; its shape is {shape} for {batch} prompts."
            )
    value = measure(model, metric, base.final[None], lambda _: "In the unpatched run.")[0]
    if value.shape not in ((), (batch,)):
        raise ValueError(
            f"The metric must return a scalar or one value for each of the {batch} prompts; it "
            f"returned the shape {tuple(value.shape)}."
        )
    if not value.isfinite().all():
        raise ValueError(f"The metric of the unpatched run is {value.tolist()}.")
    return value


def chosen(what: str, wanted: Sequence[int] | None, size: int) -> list[int]:
    if wanted is None:
        return list(range(size))
    if not len(wanted) or not all(-size <= index < size for index in wanted):
        raise ValueError(f"{what} must be some of 0 … {size - 1}; got {list(wanted)}.")
    return [index % size for index in wanted]
