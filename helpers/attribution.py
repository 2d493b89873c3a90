"""Attribution patching: every patch of a sweep, estimated from two forward passes and one backward.

The effect of a patch is taken to be linear in the size of the step: the difference of the activation
between the runs, times the gradient of the metric in the base run ("Attribution Patching: Activation
Patching At Industrial Scale", Nanda, 2023). :func:`attribution_sweep` takes the arguments of
:func:`helpers.patching.patch_sweep` and returns what that would, as far as this holds. It does not where
the step is large for what comes after it: a softmax that is saturated, a norm that scales the step down.

With ``steps`` the gradient is averaged along the straight way from the base run's embeddings to the
source run's ("Have Faith in Faithfulness", Hanna et al., 2024, arXiv 2403.17806, where it is used for
edges). That follows the model round bends, but it is still an estimate: on the way all activations move
together, and a patch moves one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.patching import BLOCK_SITES, HEAD_SITES
from helpers.precision import in_float
from helpers.progress import progress_bar
from helpers.replay import (
    Activations,
    Hook,
    Metric,
    check_model,
    check_tokens,
    checked_base,
    chosen,
    first_difference,
    forward,
    hook_names_of,
    keep,
    measure,
    unpatched_metric,
)

# The rest is shared with helpers.edges.estimated.
__all__ = ["Agreement", "agreement", "attribution_sweep"]


def attribution_sweep(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    source_tokens: Int[Tensor, "batch position"],
    site: str,
    metric: Metric,
    *,
    layers: Sequence[int] | None = None,
    by_position: bool | None = None,
    steps: int = 1,
    progress: bool | None = False,
) -> Float[Tensor, "layer ..."]:
    """What :func:`helpers.patching.patch_sweep` returns, estimated by the gradient.

    That is, the metric of the base run, plus (source - base) times the metric's gradient.

    Args:
        model, base_tokens, source_tokens, site, metric, layers: as for ``patch_sweep``.
        by_position: estimate each position's patch on its own, or of all together. ``None``: on its own
            at sites without heads, together at sites with heads.
        steps: at how many points between the runs the gradient is taken. 1: in the base run itself.
            More: at midpoints of as many equal parts of the way, and averaged.
        progress: show a bar; ``None`` for where somebody watches.

    Returns:
        The estimate for each layer, head (at sites with heads), position (``by_position``) and prompt
        (if the metric keeps prompts apart), on the scale of the metric, in float32 (float64 for such a
        model).

    Raises:
        ValueError: before any gradient, as for ``patch_sweep``, and if ``steps`` is less than 1.
        NotImplementedError: for a model that ``patch_sweep`` refuses, or in which no gradient of the
            metric reaches the site.

    Example:
        >>> from helpers.patching import patch_sweep
        >>> metric = prompts.metric()
        >>> runs = prompts.corrupted_tokens, prompts.tokens
        >>> exact = patch_sweep(model, *runs, "z", metric)
        >>> estimated = attribution_sweep(model, *runs, "z", metric)
        >>> exact.shape == estimated.shape  # layer, head
        True
    """
    check_model(model)
    check_tokens(base_tokens, source_tokens)
    if site not in BLOCK_SITES + HEAD_SITES:
        raise ValueError(f"site must be one of {BLOCK_SITES + HEAD_SITES}; got {site!r}.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}.")
    layers = chosen("layers", layers, model.cfg.n_layers)
    names = hook_names_of(model, site, layers)
    first = first_difference(base_tokens, source_tokens)
    with torch.no_grad():
        base = checked_base(model, base_tokens, site, max(layers), first)
        unpatched = unpatched_metric(model, metric, base)
    ends = between_runs(model, base_tokens, source_tokens, names)
    gradients = {layer: torch.zeros_like(value) for layer, value in ends.change.items()}
    with progress_bar(f"gradients at {site}", steps, progress) as bar:
        for start in ends.points(steps):
            for layer, gradient in gradients_at(model, base.tokens, metric, names, start).items():
                gradients[layer] += gradient / steps
            bar.update()
    products = torch.stack([ends.change[layer] * gradients[layer] for layer in layers])
    by_position = site in BLOCK_SITES if by_position is None else by_position
    effects = _summed(products, site, by_position)
    if unpatched.ndim == 0:
        effects = effects.sum(-1)
    return in_float(unpatched) + effects


class BetweenRuns(NamedTuple):
    """Two runs of as many prompts: their embeddings, and how activations differ, by layer."""

    base: Float[Tensor, "batch position d_model"]
    source: Float[Tensor, "batch position d_model"]
    change: dict[int, Float[Tensor, "batch ..."]]

    def points(self, steps: int) -> list[Float[Tensor, "batch position d_model"]]:
        """Embeddings at which gradients are taken: the base run's, or midpoints of parts of the way."""
        if steps == 1:
            return [self.base]
        shares = [(step + 0.5) / steps for step in range(steps)]
        return [self.base + share * (self.source - self.base) for share in shares]


@torch.no_grad()
def between_runs(
    model: TransformerBridge,
    base_tokens: Int[Tensor, "batch position"],
    source_tokens: Int[Tensor, "batch position"],
    names: set[str],
) -> BetweenRuns:
    """What differs between two runs at the hook points named, one of each layer."""
    embedded: list[Tensor] = []
    kept: list[Activations] = []
    for tokens in (base_tokens, source_tokens):
        start: Activations = {}
        activations: Activations = {}
        hooks = [keep(start, hook_names_of(model, "resid_pre", [0])), keep(activations, names)]
        forward(model, tokens.to(model.cfg.device), hooks)
        embedded.append(start[0])
        kept.append(activations)
    base, source = kept
    change = {layer: in_float(source[layer]) - in_float(base[layer]) for layer in base}
    return BetweenRuns(embedded[0], embedded[1], change)


def gradients_at(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch position"],
    metric: Metric,
    names: set[str],
    embedded: Float[Tensor, "batch position d_model"],
) -> dict[int, Float[Tensor, "batch ..."]]:
    """Gradient of the metric (of its sum over prompts) at hook points, in a run from given embeddings.

    Raises:
        NotImplementedError: if no gradient reaches one of them.
    """
    inside: Activations = {}
    with torch.enable_grad():
        start = embedded.detach().clone().requires_grad_()
        hooks = [begin_from(model, start), keep_in_graph(inside, names)]
        final, _ = forward(model, tokens, hooks)
        value = measure(model, metric, final[None])
        found = torch.autograd.grad(value.sum(), list(inside.values()), allow_unused=True)
    for layer, gradient in zip(inside, found, strict=True):
        if gradient is None:
            raise NotImplementedError(
                f"In {model.cfg.model_name}, no gradient of the metric reaches layer {layer} at "
                f"{', '.join(sorted(names))}: what a hook sees there is not what the model goes on "
                "with. patch_sweep says whether it can be patched there."
            )
    return {layer: in_float(gradient) for layer, gradient in zip(inside, found, strict=True)}


def begin_from(model: TransformerBridge, embedded: Float[Tensor, "batch position d_model"]) -> Hook:
    return hook_names_of(model, "resid_pre", [0]), lambda resid, hook: embedded


def keep_in_graph(store: Activations, names: set[str]) -> Hook:
    """Keep what the model goes on with: where TransformerLens reshapes, that is what a hook returns."""

    def keep(activation: Tensor, hook: Any) -> Tensor:
        store[hook.layer()] = activation
        return activation

    return names, keep


def _summed(
    products: Float[Tensor, "layer batch ..."], site: str, by_position: bool
) -> Float[Tensor, "layer ... batch"]:
    """Products of change and gradient, as layer, head, position and prompt."""
    if site == "pattern":  # layer batch head destination source
        values = products.sum(-1).permute(0, 2, 3, 1)
    elif site in HEAD_SITES:  # layer batch position head d_head
        values = products.sum(-1).permute(0, 3, 2, 1)
    else:  # layer batch position d_model
        values = products.sum(-1).permute(0, 2, 1)
    return values if by_position else values.sum(-2)


class Agreement(NamedTuple):
    """How far estimates agree with what they estimate.

    Attributes:
        rank: rank correlation (Spearman's).
        kept: how many of the largest exact effects, by size, are among as many largest estimates.
        error: mean size of the difference, relative to the mean size of the exact effects.

    Example:
        >>> agreement(torch.tensor([3.0, 1.0, -2.0]), torch.tensor([3.0, 1.0, -2.0]), top=2)
        Agreement(rank=1.0, kept=2, error=0.0)
    """

    rank: float
    kept: int
    error: float


def agreement(exact: Float[Tensor, "..."], estimated: Float[Tensor, "..."], top: int = 10) -> Agreement:
    """How far estimated effects agree with exact ones.

    Args:
        exact, estimated: effects in the same order, 0 for none.
        top: how many of the largest are compared.

    Raises:
        ValueError: for shapes that differ, fewer effects than ``top``, values that are not finite, or
            effects or estimates that are all the same, which have no order.

    Example:
        >>> found = agreement(torch.tensor([3.0, 1.0, -2.0]), torch.tensor([2.0, 4.0, -1.0]), top=1)
        >>> found.kept
        0
    """
    if exact.shape != estimated.shape or exact.numel() < max(top, 2):
        raise ValueError(
            f"Expected as many estimates as effects, and at least {max(top, 2)}; got "
            f"{tuple(exact.shape)} and {tuple(estimated.shape)}."
        )
    truth, guess = (in_float(values.detach()).flatten().cpu() for values in (exact, estimated))
    if not (truth.isfinite().all() and guess.isfinite().all()):
        raise ValueError("Effects hold NaN or infinity; give finite values only.")
    if (truth == truth[0]).all() or (guess == guess[0]).all():
        raise ValueError(
            f"All effects are {truth[0]:g}, or all estimates {guess[0]:g}: there is no order in them."
        )
    largest = [{int(i) for i in values.abs().topk(top).indices} for values in (truth, guess)]
    error = (guess - truth).abs().mean() / truth.abs().mean()
    return Agreement(
        float(spearmanr(truth, guess).statistic), len(largest[0] & largest[1]), error.item()
    )
