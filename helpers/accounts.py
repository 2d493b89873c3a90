"""What a change of one head's output does to the logit difference, part by part, until nothing is left.

At the last position the residual stream is the sum of what every part wrote there. So the change of the
logit difference is the sum of what every part writes differently, read with the clean run's final scale,
and of what the change of that scale does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from fancy_einsum import einsum
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name
from transformers import DynamicCache

from helpers.answers import AnswerMetric, metric_of, metric_rows
from helpers.logit_diff import residual_stack_to_logit_diff
from helpers.padding import check_padding
from helpers.precision import in_float
from helpers.progress import progress_bar
from helpers.readout import check_heads
from helpers.replay import PrefixCache, check_model

Key = TypeVar("Key")
Replacement = tuple[Sequence[Any], Float[Tensor, "prompt d_head"]]


class Account(NamedTuple):
    """A change of the logit difference by part and prompt, which add up to it.

    Attributes:
        before: the logit difference of the clean run, which is no part.
        after: that of the changed run, which is none either.
        direct: what the changed head itself writes differently.
        scale: what the change of the final norm's scale does to the stream of the changed run.
        heads: what every head writes differently; 0 for the changed head.
        mlps: what every MLP writes differently.

    Example:
        >>> change = {"before": 3.0, "after": 2.0, "direct": -1.5, "scale": 0.5}
        >>> account = Account(
        ...     **{name: torch.tensor([value]) for name, value in change.items()},
        ...     heads=torch.zeros(2, 4, 1),
        ...     mlps=torch.zeros(2, 1),
        ... )
        >>> account.made_up
        tensor([0.5000])
    """

    before: Float[Tensor, " prompt"]
    after: Float[Tensor, " prompt"]
    direct: Float[Tensor, " prompt"]
    scale: Float[Tensor, " prompt"]
    heads: Float[Tensor, "layer head prompt"]
    mlps: Float[Tensor, "layer prompt"]

    @property
    def groups(self) -> dict[str, Float[Tensor, " prompt"]]:
        """The change by later heads, by later MLPs and by the final scale."""
        return {
            "later heads": self.heads.sum((0, 1)),
            "later MLPs": self.mlps.sum(0),
            "final scale": self.scale,
        }

    @property
    def summary(self) -> dict[str, Float[Tensor, " prompt"]]:
        """The lost direct effect, the :attr:`groups` of later parts, and what they make up in all."""
        return {"lost direct effect": self.direct, **self.groups, "made up, in all": self.made_up}

    @property
    def parts(self) -> Float[Tensor, " prompt"]:
        """The sum of all parts."""
        return self.direct + sum(self.groups.values())

    @property
    def made_up(self) -> Float[Tensor, " prompt"]:
        """The change less the head's own; after an ablation, what is made up for of its loss."""
        return self.after - self.before - self.direct


def account_for(
    model: TransformerBridge,
    tokens: Int[Tensor, "prompt pos"],
    answer_tokens: Int[Tensor, "prompt 2"] | AnswerMetric,
    replacements: Mapping[Key, Replacement],
    *,
    batch: int = 25,
    progress: bool | None = None,
) -> dict[Key, Account]:
    """What becomes of the logit difference when one head's output at the last position is replaced.

    Nothing changes before the last position. So the changed runs take the keys and values there from the
    clean run, and run the last token only.

    Args:
        model: in evaluation mode, without hooks.
        tokens: prompts of one length, without padding.
        answer_tokens: (right, wrong) token ids of each prompt, or a task's metric.
        replacements: a name for each account, to (layer, head, …) and what replaces its ``z``; for
            zero ablation, zeros.
        batch: how many prompts run at once.
        progress: show a bar; ``None`` for where somebody watches.

    Returns:
        An account by each name, in float32 (float64 for such a model), on the CPU.

    Raises:
        ValueError: if a replacement has another shape than [prompt, d_head], there is no such head, or
            answers are summed in probability, which is not linear.
        NotImplementedError: for a model whose heads do not each add to a stream that is read linearly.

    Example:
        >>> nothing = torch.zeros(len(prompts), model.cfg.d_head)
        >>> ablations = {"L1H2": ((1, 2), nothing)}
        >>> accounts = account_for(model, prompts.tokens, prompts.answer_tokens, ablations)
        >>> account = accounts["L1H2"]
        >>> torch.allclose(account.after - account.before, account.parts, atol=1e-3)
        True
    """
    check_model(model)
    check_heads(model)
    for (layer, head, *_), output in replacements.values():
        if not (0 <= layer < model.cfg.n_layers and 0 <= head < model.cfg.n_heads):
            raise ValueError(
                f"There is no L{layer}H{head}: {model.cfg.model_name} has {model.cfg.n_layers} layers "
                f"of {model.cfg.n_heads} heads."
            )
        if output.shape != (len(tokens), model.cfg.d_head):
            raise ValueError(
                f"What replaces L{layer}H{head} must be [prompt, d_head] = "
                f"{(len(tokens), model.cfg.d_head)}; got {tuple(output.shape)}."
            )
    metric = metric_of(answer_tokens)
    batches: list[list[Account]] = []
    starts = range(0, len(tokens), batch)
    with torch.no_grad(), progress_bar("accounts", len(starts), progress) as bar:
        for start in starts:
            rows = slice(start, start + batch)
            cut = [((head[0], head[1]), output[rows]) for head, output in replacements.values()]
            batches.append(_accounts_of_batch(model, tokens[rows], metric_rows(metric, rows), cut))
            bar.update()
    return {
        name: Account(*(torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)))
        for name, found in zip(replacements, zip(*batches, strict=True), strict=True)
    }


def head_attribution(
    model: TransformerBridge,
    tokens: Int[Tensor, "prompt pos"],
    answer_tokens: Int[Tensor, "prompt 2"] | AnswerMetric,
    *,
    attention_mask: Int[Tensor, "prompt pos"] | None = None,
    batch: int = 25,
) -> Float[Tensor, "layer head prompt"]:
    """What every head adds to each prompt's logit difference at the last position, on the CPU.

    Args:
        model: in evaluation mode, without hooks.
        tokens: prompts of one length; or padded on the left, with ``attention_mask``.
        answer_tokens: (right, wrong) token ids of each prompt, or a task's metric.
        attention_mask: 0 on padding, 1 elsewhere, as ``task.padded.mask``.
        batch: how many prompts run at once.

    Raises:
        ValueError: for answers that are summed in probability, which is not linear.
        NotImplementedError: for a model whose heads do not each add to a stream that is read linearly;
            if there is padding, for one that does not keep to the mask.

    Example:
        >>> by_head = head_attribution(model, prompts.tokens, prompts.answer_tokens)
        >>> by_head.shape == (model.cfg.n_layers, model.cfg.n_heads, len(prompts))
        True
    """
    check_model(model)
    check_heads(model)
    metric = metric_of(answer_tokens)
    if attention_mask is not None:
        check_padding(model, tokens, attention_mask)
    found = []
    with torch.no_grad():
        for rows in torch.arange(len(tokens)).split(batch):
            mask = None if attention_mask is None else attention_mask[rows]
            of_rows = metric_rows(metric, rows)
            directions = of_rows.directions(model)
            run = _run(model, tokens[rows], of_rows, DynamicCache(), mask=mask)
            found.append(
                residual_stack_to_logit_diff(run.by_head, run.cache, directions, per_prompt=True).cpu()
            )
    return torch.cat(found, dim=-1).unflatten(0, (model.cfg.n_layers, model.cfg.n_heads))


def _accounts_of_batch(
    model: TransformerBridge,
    tokens: Int[Tensor, "prompt pos"],
    metric: AnswerMetric,
    replacements: Sequence[tuple[tuple[int, int], Tensor]],
) -> list[Account]:
    keys_and_values = DynamicCache()
    clean = _run(model, tokens, metric, keys_and_values)
    earlier = PrefixCache(keys_and_values, tokens.shape[1] - 1)
    accounts = []
    for (layer, head), output in replacements:
        hook = _replace_at_end(layer, head, output)
        changed = _run(model, tokens[:, -1:], metric, earlier, [hook])
        accounts.append(_difference((layer, head), clean, changed, metric))
    return accounts


class _LastToken(NamedTuple):
    """Of a run at the last position: logit difference, what was kept, what heads and MLPs wrote."""

    diffs: Float[Tensor, " prompt"]
    cache: ActivationCache
    by_head: Float[Tensor, "component prompt d_model"]
    by_mlp: Float[Tensor, "layer prompt d_model"]


def _run(
    model: TransformerBridge,
    tokens: Int[Tensor, "prompt some_pos"],
    metric: AnswerMetric,
    keys_and_values: DynamicCache,
    hooks: Sequence[tuple[str, Callable[..., Tensor]]] = (),
    mask: Int[Tensor, "prompt some_pos"] | None = None,
) -> _LastToken:
    layers = range(model.cfg.n_layers)
    needed = {get_act_name(site, layer) for site in ("z", "mlp_out") for layer in layers}
    needed |= {"ln_final.hook_scale", get_act_name("resid_post", layers[-1])}
    with model.hooks(fwd_hooks=list(hooks)):
        logits, cache = model.run_with_cache(
            tokens,
            past_key_values=keys_and_values,
            names_filter=needed.__contains__,
            **({} if mask is None else {"attention_mask": mask}),
        )
    by_head = [
        einsum(
            "prompt head d_head, head d_head d_model -> head prompt d_model",
            in_float(cache["z", layer][:, -1]),
            in_float(model.blocks[layer].attn.W_O),
        )
        for layer in layers
    ]
    by_mlp = [in_float(cache["mlp_out", layer][:, -1]) for layer in layers]
    return _LastToken(metric(logits[:, -1]), cache, torch.cat(by_head), torch.stack(by_mlp))


def _difference(
    head: tuple[int, int], clean: _LastToken, changed: _LastToken, metric: AnswerMetric
) -> Account:
    model = clean.cache.model
    directions = metric.directions(model)

    def read(stack: Float[Tensor, "part prompt d_model"], run: _LastToken) -> Tensor:
        return residual_stack_to_logit_diff(stack, run.cache, directions, per_prompt=True).cpu()

    heads = read(changed.by_head - clean.by_head, clean)
    heads = heads.unflatten(0, (model.cfg.n_layers, model.cfg.n_heads))
    direct = heads[head].clone()
    heads[head] = 0
    final = changed.cache["resid_post", -1][None, :, -1]
    return Account(
        before=clean.diffs.cpu(),
        after=changed.diffs.cpu(),
        direct=direct,
        scale=(read(final, changed) - read(final, clean))[0],
        heads=heads,
        mlps=read(changed.by_mlp - clean.by_mlp, clean),
    )


def _replace_at_end(
    layer: int, head: int, output: Float[Tensor, "prompt d_head"]
) -> tuple[str, Callable[..., Tensor]]:
    def replace(z: Float[Tensor, "prompt pos head d_head"], hook: Any) -> Tensor:
        z[:, -1, head] = output.to(z)
        return z

    return get_act_name("z", layer), replace
