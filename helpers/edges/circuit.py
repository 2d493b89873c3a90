"""Running a model with some of its edges: is a circuit of edges enough?

Every edge outside the circuit carries what its writer says in a *reference*: the corrupted prompts, row
by row (resample ablation), or their average (mean ablation). A circuit is faithful if the model still
does the task, and complete if nothing of the task is left without its edges ("Interpretability in the
Wild", Wang et al., 2022; for edges, Conmy et al., 2023, arXiv 2304.14997).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.answers import AnswerMetric, metric_of, metric_rows
from helpers.edges.graph import possible_edges
from helpers.edges.writes import (
    Writes,
    before_mlp,
    check_heads_apart,
    stream_before,
    written_by_heads,
)
from helpers.intervals import Interval, mean_interval
from helpers.models import n_key_value_heads
from helpers.precision import in_float, precision_of, rounding_of
from helpers.progress import progress_bar
from helpers.replay import (
    BaseRun,
    Hook,
    PrefixCache,
    as_refusal,
    check_model,
    check_replay,
    forward,
    hook_names_of,
    measure,
    run_base,
    side_by_side,
)


@torch.no_grad()
def with_only_edges(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch position"],
    kept: Bool[Tensor, "*circuit reader writer"],
    reference: Writes,
    metric: AnswerMetric,
    *,
    batch: int = 10,
    progress: bool | None = False,
) -> Float[Tensor, "*circuit batch"]:
    """Each prompt's metric when only some edges carry what this prompt says.

    Every reader gets its own residual stream: what its kept edges carry in this run, and for the rest of
    the writers what they write in the reference. Grouped keys and values are computed for each query
    head.

    Args:
        tokens: prompts of one length, unpadded.
        kept: of :func:`helpers.edges.graph.edge_mask`; pairs that can have no edge do not count. Several
            circuits, stacked along any axes in front, save the checks of each.
        reference: of as many prompts, or of one, which stands beside each (:meth:`Writes.mean`).
        metric: answers, as ``task.metric()``; the result is by prompt in any case.
        batch: how many prompts run at once.
        progress: show a bar; ``None`` for where somebody watches.

    Raises:
        ValueError: if shapes do not fit.
        NotImplementedError: if this model, with all its edges, would not be what it is.

    Example:
        >>> from helpers.edges.writes import writes
        >>> reference = writes(model, prompts.corrupted_tokens)
        >>> metric, every = prompts.metric(), possible_edges(model)
        >>> whole = with_only_edges(model, prompts.tokens, every, reference, metric)
        >>> torch.allclose(whole.mean(), metric(logits[:, -1]), atol=1e-3)
        True
        >>> none = with_only_edges(model, prompts.tokens, ~every, reference, metric)
        >>> torch.allclose(none.mean(), metric(model(prompts.corrupted_tokens)[:, -1]), atol=1e-3)
        True
    """
    check_model(model)
    every = possible_edges(model)
    rows = reference.parts.shape[1]
    if kept.shape[-2:] != every.shape or rows not in (1, len(tokens)):
        raise ValueError(
            f"Expected a table of edges of shape {tuple(every.shape)}, or several, and a reference of "
            f"one prompt or of {len(tokens)}; got {tuple(kept.shape)} and {rows}."
        )
    tokens = tokens.to(model.cfg.device)
    _check_whole(model, tokens[:2], _rows(reference, slice(2)))
    masks = (kept & every.to(kept.device)).to(model.cfg.device, reference.parts.dtype)
    masks = masks.reshape(-1, *every.shape)
    found = []
    chunks = torch.arange(len(tokens)).split(batch)
    with progress_bar("runs with some edges", len(chunks) * len(masks), progress) as bar:
        for chunk in chunks:
            some = reference if rows == 1 else _rows(reference, chunk)
            base = run_base(model, tokens[chunk])
            of_rows = metric_of(metric_rows(metric, chunk))
            first = _first_difference(model, base, some)
            values = []
            for mask in masks:
                final = _run(model, base, mask, some, first)
                values.append(measure(model, of_rows, final[None])[0])
                bar.update()
            found.append(torch.stack(values))
    return torch.cat(found, dim=-1).reshape(*kept.shape[:-2], len(tokens))


def faithfulness(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch position"],
    kept: Bool[Tensor, "*circuit reader writer"],
    reference: Writes,
    metric: AnswerMetric,
    *,
    batch: int = 10,
    progress: bool | None = False,
) -> Interval:
    """How much of the task each circuit keeps: 0 is what no edge keeps, 1 what all edges do.

    Both ends are measured with the same reference: on an average of streams a model without any edge is
    undecided, on the corrupted prompts it prefers the other answer, and shares on one scale would not be
    shares on the other. For completeness give the edges that are *not* in the circuit.

    Args:
        model, tokens, kept, reference, metric, batch, progress: as for :func:`with_only_edges`.

    Returns:
        The share for each circuit, means over prompts divided, with an interval over prompts
        (:func:`helpers.intervals.mean_interval`).

    Raises:
        ValueError, NotImplementedError: as for :func:`with_only_edges`; ValueError for a single prompt.

    Example:
        >>> from helpers.edges.writes import writes
        >>> reference = writes(model, prompts.corrupted_tokens)
        >>> circuits = torch.stack([possible_edges(model), torch.zeros_like(possible_edges(model))])
        >>> share = faithfulness(model, prompts.tokens, circuits, reference, prompts.metric())
        >>> torch.allclose(share.value, torch.tensor([1.0, 0.0]), atol=1e-3)
        True
    """
    every = possible_edges(model).to(kept.device)
    circuits = kept.reshape(-1, *kept.shape[-2:])
    ends = torch.stack([torch.zeros_like(every), every])
    masks = torch.cat([ends, circuits]) if circuits.shape[1:] == every.shape else circuits
    nothing, whole, *values = with_only_edges(
        model, tokens, masks, reference, metric, batch=batch, progress=progress
    )
    shares = mean_interval(torch.stack(values) - nothing, relative_to=whole - nothing)
    return Interval(*(part.reshape(kept.shape[:-2]) for part in shares))


def _rows(reference: Writes, rows: slice | Tensor) -> Writes:
    return Writes(reference.parts[:, rows], reference.biases)


def _check_whole(model: TransformerBridge, tokens: Tensor, reference: Writes) -> None:
    """With every edge kept the run is the model's own, or this module does not know the model."""
    base = run_base(model, tokens.to(model.cfg.device))
    check_replay(model, base, 0)
    check_heads_apart(model, tokens)
    every = possible_edges(model).to(model.cfg.device, reference.parts.dtype)
    with as_refusal(f"{model.cfg.model_name} cannot be given its parts' inputs one by one"):
        whole = _run(model, base, every, reference, _first_difference(model, base, reference))
    off = (whole - in_float(base.final)).norm()
    if not off <= rounding_of(precision_of(model)) ** 0.5 * base.final.norm():
        raise NotImplementedError(
            f"{model.cfg.model_name} is not itself when its parts are given their inputs one by one "
            "(queries or keys may be normalised, or the MLP may read something else): a circuit of "
            "edges cannot be run on it here. helpers.circuit runs circuits of heads."
        )


def _run(
    model: TransformerBridge,
    base: BaseRun,
    mask: Float[Tensor, "reader writer"],
    reference: Writes,
    first: int,
) -> Float[Tensor, "batch d_model"]:
    """The stream that is unembedded, if each reader hears some writers' change from the reference.

    Where the reference's prompts begin as these do, nothing changes, and keys and values are known.
    """
    later = Writes(reference.parts[:, :, first:], reference.biases)
    run = _EdgeRun(model, mask, later, in_float(base.resid_pre[0][:, first:]))
    # One prompt in, as in helpers.replay: masks and position embeddings broadcast to what it grows to.
    forward(model, base.tokens[:1, first:], run.hooks(), PrefixCache(base.cache, first))
    return run.heard(len(mask) - 1, 1)[0][:, -1]


def _first_difference(model: TransformerBridge, base: BaseRun, reference: Writes) -> int:
    """How many positions at the beginning are the same in the reference, in all layers."""
    same = torch.ones(base.tokens.shape[1], dtype=torch.bool, device=base.tokens.device)
    eps = rounding_of(precision_of(model))
    for layer, own in base.resid_pre.items():
        off = (stream_before(model, reference, layer) - in_float(own)).norm(dim=-1)
        same &= (off <= 8 * eps * own.norm(dim=-1)).all(0)
    last = base.tokens.shape[1] - 1  # is run in any case: it is what is read
    return min(int(same.long().cumprod(0).sum()), last)


class _EdgeRun:
    """One forward pass in which hooks give every reader a residual stream of its own.

    Attention runs on as many copies of the prompts as query heads share a key: in each copy every key is
    the one that another of these heads hears.
    """

    def __init__(
        self,
        model: TransformerBridge,
        mask: Float[Tensor, "reader writer"],
        reference: Writes,
        embedded: Float[Tensor, "batch position d_model"],
    ):
        self.model, self.mask, self.reference = model, mask, reference
        self.changes = embedded.new_zeros(mask.shape[1], *embedded.shape)
        self.known = 0  # writers, so far
        self.stream = torch.zeros_like(reference.parts[0])  # the reference's, so far
        self.beside_heads: Tensor | None = None
        self.copies = model.cfg.n_heads // n_key_value_heads(model)
        self.inputs: dict[str, Tensor] = {}
        self.write(embedded[None])

    def write(self, new: Float[Tensor, "writer batch position d_model"]) -> None:
        stop = self.known + len(new)
        said = self.reference.parts[self.known : stop]
        self.changes[self.known : stop] = new - said
        self.stream = self.stream + said.sum(0)
        self.known = stop

    def heard(self, row: int, count: int) -> Float[Tensor, "reader batch position d_model"]:
        """The reference's stream, and the changes that some readers hear, from those written so far."""
        mask, changes = self.mask[row : row + count, : self.known], self.changes[: self.known]
        return self.stream + torch.einsum("rw,wbpd->rbpd", mask, changes)

    def hooks(self) -> list[Hook]:
        model, layers = self.model, range(self.model.cfg.n_layers)
        mlp_in = {f"blocks.{layer}.mlp.hook_in" for layer in layers}
        hooks: list[Hook] = [(hook_names_of(model, "resid_pre", layers), self.begin)]
        hooks += [(hook_names_of(model, site, layers), partial(self.give, site)) for site in "qkv"]
        hooks += [(hook_names_of(model, "z", layers), self.take_heads), (mlp_in, self.give_mlp)]
        return [*hooks, (hook_names_of(model, "mlp_out", layers), self.take_mlp)]

    def begin(self, resid: Tensor, hook: Any) -> Tensor:
        """Before a layer: what its readers hear. What goes through the blocks themselves is not read."""
        layer, n_heads = hook.layer(), self.model.cfg.n_heads
        row = layer * (3 * n_heads + 1)
        self.inputs = self._head_inputs(layer, self.heard(row, 3 * n_heads))
        if side_by_side(self.model):  # before this layer's heads have written
            self.beside_heads = self._mlp_stream(layer)
        return resid.new_zeros(len(self.inputs["q"]), *resid.shape[1:])

    def _mlp_stream(self, layer: int) -> Float[Tensor, "batch position d_model"]:
        row = (layer + 1) * (3 * self.model.cfg.n_heads + 1) - 1
        return self.heard(row, 1)[0].to(precision_of(self.model))

    def _head_inputs(
        self, layer: int, streams: Float[Tensor, "reader batch position d_model"]
    ) -> dict[str, Float[Tensor, "row position head d_head"]]:
        block, n_heads, copies = self.model.blocks[layer], self.model.cfg.n_heads, self.copies
        normed = block.ln1(streams.flatten(0, 1).to(precision_of(self.model)))
        normed = normed.unflatten(0, (3, n_heads, -1))
        inputs = {}
        for through, read in zip("qkv", normed, strict=True):
            weights = getattr(block.attn, f"W_{through.upper()}")
            bias = getattr(block.attn, f"b_{through.upper()}")
            each = n_heads // len(weights)  # query heads to one of these
            value = torch.einsum("hbpd,hde->bphe", read, weights.repeat_interleave(each, 0))
            if bias is not None:
                value = value + bias.repeat_interleave(each, 0)
            inputs[through] = value
        shared = {name: inputs[name].unflatten(2, (-1, copies)).movedim(3, 0) for name in "kv"}
        queries = inputs["q"].repeat(copies, 1, 1, 1)
        return {"q": queries, **{name: value.flatten(0, 1) for name, value in shared.items()}}

    def give(self, site: str, activation: Tensor, hook: Any) -> Tensor:
        return self.inputs[site]

    def take_heads(self, z: Tensor, hook: Any) -> None:
        of_copies = z.unflatten(0, (self.copies, -1))
        own = [of_copies[head % self.copies, :, :, head] for head in range(z.shape[2])]
        self.write(written_by_heads(self.model, hook.layer(), torch.stack(own, 2)))
        self.stream = self.stream + self.reference.biases[hook.layer()]

    def give_mlp(self, activation: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        stream = self._mlp_stream(layer) if self.beside_heads is None else self.beside_heads
        return before_mlp(self.model, layer, stream)

    def take_mlp(self, activation: Tensor, hook: Any) -> Tensor:
        self.write(in_float(activation)[None])
        return activation[:1]
