"""Edges measured one at a time: what changes if one reader hears one writer as in another run.

Direct path patching (Goldowsky-Dill et al., 2023, arXiv 2304.05969), for every kind of writer and reader
(:mod:`helpers.path_patching` has heads only). Conmy et al. (2023, arXiv 2304.14997) judge edges so, one
after another, to find circuits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.edges.graph import Reader, heard_by
from helpers.edges.writes import Writes, before_mlp, stream_before, writes
from helpers.precision import in_float, precision_of, rounding_of
from helpers.progress import progress_bar
from helpers.replay import (
    Activations,
    BaseRun,
    Metric,
    PrefixCache,
    check_model,
    check_replay,
    check_site,
    check_tokens,
    first_difference,
    forward,
    hook_names_of,
    keep,
    measure,
    prompts_at_once,
    receiver_inputs,
    run_base,
    run_receiver,
    unpatched_metric,
)

# The final residual stream when a reader hears some changes, one each.
Run = Callable[[Float[Tensor, "change batch position d_model"]], Float[Tensor, "row d_model"]]


@torch.no_grad()
def edge_sweep(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    source_tokens: Int[Tensor, "batch position"],
    into: Sequence[Reader],
    metric: Metric,
    *,
    chunk: int | None = None,
    progress: bool | None = None,
) -> Float[Tensor, "reader writer ..."]:
    """Metric of the base run, with one reader at a time hearing one writer as in the source run.

    The writer's change at every position is added to what this reader reads, and to nothing else. The
    norm before the reader is recomputed, and everything after it runs on: no approximation.

    Args:
        model: a causal decoder whose residual stream is the sum of what its parts write.
        base_tokens: the prompts that are run, all of one length, unpadded.
        source_tokens: the prompts that the writers' changes come from, row by row.
        into: the readers to sweep, such as some of :func:`helpers.edges.graph.readers`. The time goes
            with their number; the logits take next to none.
        metric: as for :func:`helpers.patching.patch_sweep`; the result is not normalised.
        chunk: how many changed prompts run at once. ``None``: as many as take about half a gigabyte.
        progress: show a bar; ``None`` for where somebody watches.

    Returns:
        The metric for each reader and each of :func:`helpers.edges.graph.writers`, and prompt, if the
        metric keeps prompts apart. For writers that a reader cannot hear, that of the base run.

    Raises:
        ValueError: before any patching, as for ``patch_sweep``, and for a reader there is not.
        NotImplementedError: before any patching, as for ``patch_sweep``, and for a model whose stream is
            not the sum of what its parts write.

    Example:
        >>> from helpers.edges.graph import writers
        >>> last = Reader(model.cfg.n_layers, None, "logits")
        >>> metric = prompts.metric()
        >>> effects = edge_sweep(model, prompts.corrupted_tokens, prompts.tokens, [last], metric)
        >>> effects.shape == (1, len(writers(model)))
        True
    """
    check_model(model)
    check_tokens(base_tokens, source_tokens)
    for reader in into:
        heard_by(model, reader)
    z: Activations = {}
    base_tokens = base_tokens.to(model.cfg.device)
    layers = range(model.cfg.n_layers)
    base = run_base(model, base_tokens, [keep(z, hook_names_of(model, "z", layers))])
    first = first_difference(base_tokens, source_tokens)
    check_replay(model, base, first)
    unpatched = unpatched_metric(model, metric, base)
    written = writes(model, base_tokens)
    changes = (writes(model, source_tokens).parts - written.parts)[:, :, first:]
    _check_readers(model, base, z, into, first)

    values = unpatched.expand(len(into), len(changes), *unpatched.shape).clone()
    prompts = chunk or prompts_at_once(model, base_tokens.shape[1], first)
    size = max(1, prompts // len(base_tokens))
    with progress_bar("edges", sum(heard_by(model, reader) for reader in into), progress) as bar:
        for row, reader in enumerate(into):
            run = _runner(model, base, written, z, reader, first)
            for some in torch.arange(heard_by(model, reader)).split(size):
                final = run(changes[some]).unflatten(0, (len(some), -1))
                values[row, some] = measure(model, metric, final)
                bar.update(len(some))
    return values


def _check_readers(
    model: TransformerBridge, base: BaseRun, z: Activations, into: Sequence[Reader], first: int
) -> None:
    """One layer for each kind of input: a hook there must do what it should."""
    of_heads = sorted(
        (reader for reader in into if reader.head is not None), key=lambda reader: reader.layer
    )
    highest = {reader.through: reader.layer for reader in of_heads}
    for through, layer in highest.items():
        own: Activations = {}
        forward(model, base.tokens, [keep(own, hook_names_of(model, through, [layer]))])
        check_site(model, base, through, layer, own[layer], first)
        check_site(model, base, "z", layer, z[layer], first)


def _runner(
    model: TransformerBridge, base: BaseRun, written: Writes, z: Activations, reader: Reader, first: int
) -> Run:
    layer, head, through = reader
    if through == "logits":
        return lambda changes: _heard(base.final, changes[:, :, -1])
    if head is not None:
        return lambda changes: _run_head(model, base, z[layer], reader, changes, first)
    return _mlp_runner(model, base, written, layer, first)


def _heard(stream: Float[Tensor, "batch ..."], changes: Float[Tensor, "change batch ..."]) -> Tensor:
    """A stream with each change, one below the other."""
    return (in_float(stream) + changes).to(stream.dtype).flatten(0, 1)


def _run_head(
    model: TransformerBridge,
    base: BaseRun,
    z: Float[Tensor, "batch position head d_head"],
    reader: Reader,
    changes: Float[Tensor, "change batch position d_model"],
    first: int,
) -> Float[Tensor, "row d_model"]:
    layer, head, through = reader
    assert head is not None
    heard = _heard(base.resid_pre[layer][:, first:], changes)
    inputs = receiver_inputs(model, base, heard, through, layer, first)
    return run_receiver(model, base, z, inputs, through, (layer, head), first)


def _mlp_runner(model: TransformerBridge, base: BaseRun, written: Writes, layer: int, first: int) -> Run:
    """An MLP is a function of one position's stream: it is called so, and the layers after it run."""
    dtype = precision_of(model)
    before = stream_before(model, written, layer, mlp=True)[:, first:].to(dtype)
    own = written.parts[1 + (layer + 1) * (model.cfg.n_heads + 1) - 1][:, first:]
    after = stream_before(model, written, layer + 1)[:, first:]

    def mlp(stream: Float[Tensor, "row position d_model"]) -> Float[Tensor, "row position d_model"]:
        return in_float(model.blocks[layer].mlp(before_mlp(model, layer, stream)))

    try:
        off = (mlp(before) - own).norm(dim=-1)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, RuntimeError) as error:  # MPT's adds the stream itself, OPT's is no module
        raise NotImplementedError(
            f"In {model.cfg.model_name}, the MLP of layer {layer} is not a function of the normalised "
            f"residual stream alone ({error}), so that it cannot be given another one here."
        ) from error
    if not (off <= rounding_of(dtype) ** 0.5 * (own.norm(dim=-1) + after.norm(dim=-1))).all():
        raise NotImplementedError(
            f"In {model.cfg.model_name}, the MLP of layer {layer} is not a function of the normalised "
            "residual stream before it, so that it cannot be given another one here."
        )

    def run(changes: Float[Tensor, "change batch position d_model"]) -> Float[Tensor, "row d_model"]:
        said = mlp(_heard(before, changes)).unflatten(0, changes.shape[:2])
        stream = _heard(after.to(dtype), said - own)
        if layer == model.cfg.n_layers - 1:
            return stream[:, -1]
        begin = hook_names_of(model, "resid_pre", [layer + 1]), lambda _, hook: stream
        final, _ = forward(model, base.tokens[:1, first:], [begin], PrefixCache(base.cache, first))
        return final

    return run
