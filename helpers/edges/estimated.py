"""Edge attribution patching: every edge at once, from gradients.

An edge's effect is taken to be the writer's change between the runs times the gradient of the metric at
what the reader reads ("Attribution Patching Outperforms Automated Circuit Discovery", Syed et al., 2023,
arXiv 2310.10348). With ``steps`` the gradient is averaged on the way between the runs (EAP-IG, Hanna et
al., 2024, arXiv 2403.17806).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.attribution import begin_from, between_runs, keep_in_graph
from helpers.edges.graph import heard_by, readers
from helpers.edges.writes import check_heads_apart, writes
from helpers.precision import in_float
from helpers.progress import progress_bar
from helpers.replay import (
    Activations,
    Metric,
    check_model,
    check_replay,
    check_tokens,
    first_difference,
    forward,
    hook_names_of,
    measure,
    run_base,
    side_by_side,
    unpatched_metric,
)

SITES = ("resid_pre", "q", "k", "v", "z", "mlp_out")


def edge_attribution(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    source_tokens: Int[Tensor, "batch position"],
    metric: Metric,
    *,
    steps: int = 1,
    progress: bool | None = None,
) -> Float[Tensor, "reader writer ..."]:
    """What :func:`helpers.edges.exact.edge_sweep` returns into all readers, estimated by gradients.

    Also for keys and values that query heads share (TransformerLens's ``attribution_patch`` refuses
    edges there): the gradient of one query head is taken apart from the others'.

    Args:
        model, base_tokens, source_tokens, metric: as for ``edge_sweep``.
        steps: as for :func:`helpers.attribution.attribution_sweep`.
        progress: show a bar; ``None`` for where somebody watches.

    Returns:
        The metric of the base run plus the estimated effect, for each of
        :func:`helpers.edges.graph.readers` and of :func:`helpers.edges.graph.writers`, and each prompt
        if the metric keeps prompts apart; in float32 (float64 for such a model).

    Raises:
        ValueError: as for ``edge_sweep``, and if ``steps`` is less than 1.
        NotImplementedError: as for ``edge_sweep``, and where gradients do not reach the readers.

    Example:
        >>> metric = prompts.metric()
        >>> estimated = edge_attribution(model, prompts.corrupted_tokens, prompts.tokens, metric)
        >>> estimated.shape == (len(readers(model)), 1 + model.cfg.n_layers * (model.cfg.n_heads + 1))
        True
    """
    check_model(model)
    check_tokens(base_tokens, source_tokens)
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}.")
    base_tokens = base_tokens.to(model.cfg.device)
    first = first_difference(base_tokens, source_tokens)
    with torch.no_grad():
        base = run_base(model, base_tokens)
        check_replay(model, base, first)
        check_heads_apart(model, base_tokens)
        unpatched = unpatched_metric(model, metric, base)
    changes = writes(model, source_tokens).parts - writes(model, base_tokens).parts
    ends = between_runs(model, base_tokens, source_tokens, hook_names_of(model, "resid_pre", [0]))
    of_readers = readers(model)
    effects = changes.new_zeros(len(of_readers), len(changes), len(base_tokens))
    with progress_bar("gradients of edges", steps * model.cfg.n_layers, progress) as bar:
        for start in ends.points(steps):
            row = 0
            for gradients in _gradients_of_readers(model, base_tokens, metric, start):
                rows = slice(row, row + len(gradients))
                some = slice(heard_by(model, of_readers[row]))
                effects[rows, some] += torch.einsum("rbpd,wbpd->rwb", gradients, changes[some]) / steps
                row = rows.stop
                bar.update(len(gradients) > 1)
    if unpatched.ndim == 0:
        effects = effects.sum(-1)
    return in_float(unpatched) + effects


def _gradients_of_readers(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch position"],
    metric: Metric,
    embedded: Float[Tensor, "batch position d_model"],
) -> Iterator[Float[Tensor, "reader batch position d_model"]]:
    """Gradient of the metric (of its sum over prompts) at what each reader reads.

    In the order of :func:`helpers.edges.graph.readers`, those together that hear the same writers.
    """
    layers = range(model.cfg.n_layers)
    kept: dict[str, Activations] = {site: {} for site in SITES}
    with torch.enable_grad():
        start = embedded.detach().clone().requires_grad_()
        hooks = [begin_from(model, start)]
        # What the first hook puts there is what the second one keeps.
        hooks += [keep_in_graph(kept[site], hook_names_of(model, site, layers)) for site in SITES]
        if not side_by_side(model):
            kept["resid_mid"] = {}
            hooks.append(keep_in_graph(kept["resid_mid"], hook_names_of(model, "resid_mid", layers)))
        final, _ = forward(model, tokens, hooks)
        value = measure(model, metric, final[None]).sum()
        ends = [*kept["z"].values(), *kept["mlp_out"].values(), final]
        found = torch.autograd.grad(value, ends, retain_graph=True, allow_unused=True)
        if any(gradient is None for gradient in found):
            raise NotImplementedError(
                f"In {model.cfg.model_name}, no gradient of the metric reaches what heads and MLPs "
                "write, as hooks see it: edges cannot be estimated here. edge_sweep measures them."
            )
        at_z, at_mlps, at_final = found[: len(layers)], found[len(layers) : -1], found[-1]
    for layer in layers:
        yield _at_inputs(
            model, {site: kept[site][layer] for site in ("resid_pre", *"qkvz")}, at_z[layer]
        )
        before = kept.get("resid_mid", kept["resid_pre"])[layer]
        [at_mlp] = torch.autograd.grad(kept["mlp_out"][layer], before, at_mlps[layer], retain_graph=True)
        yield in_float(at_mlp)[None]
    last = in_float(embedded).new_zeros(1, *embedded.shape)
    last[0, :, -1] = in_float(at_final)
    yield last


def _at_inputs(
    model: TransformerBridge,
    of_layer: dict[str, Tensor],
    at_z: Float[Tensor, "batch position head d_head"],
) -> Float[Tensor, "reader batch position d_model"]:
    """From the gradient at a layer's ``z`` to that at the stream as each query, key and value reads it.

    Head by head: of what is behind it in the graph, a head's ``z`` is asked for its own input alone.
    """
    n_heads, z = model.cfg.n_heads, of_layer["z"]
    found: dict[str, list[Tensor]] = {"q": [], "k": [], "v": []}
    for head in range(n_heads):
        only = torch.zeros_like(at_z)
        only[:, :, head] = at_z[:, :, head]
        inputs = [of_layer[through] for through in found]
        at_inputs = torch.autograd.grad(z, inputs, only, retain_graph=True)
        for through, at_input in zip(found, at_inputs, strict=True):
            [at_stream] = torch.autograd.grad(
                of_layer[through], of_layer["resid_pre"], at_input, retain_graph=True
            )
            found[through].append(in_float(at_stream))
    return torch.stack([*found["q"], *found["k"], *found["v"]])
