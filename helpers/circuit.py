"""Is a circuit enough? Heads behind gates, and what is left when most gates are shut.

A gate stands behind every attention head at every position. Open (1), the head's output is its own;
shut (0), it is the head's average over reference prompts, such as those that name three different
people: the head says what it says on any prompt of this kind, and nothing about this one. A circuit is
*faithful* if the model does the task with all gates outside it shut (mean ablation, as in
"Interpretability in the Wild", Wang et al., 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.answers import AnswerMetric, metric_of, metric_rows
from helpers.precision import in_float
from helpers.progress import progress_bar
from helpers.replay import Hook, forward, hook_names_of, keep, measure
from helpers.work import Pool, Run, Work, finished

ROWS_AT_ONCE = 32  # of a gradient's forward pass, which keeps its activations: under a gigabyte
ROWS_AT_ONCE_UNGRADED = 256  # prompts times settings


class Node(NamedTuple):
    """A head at a named position.

    Example:
        >>> Node(9, 6, "end").name
        'L9H6'
    """

    layer: int
    head: int
    where: str

    @property
    def name(self) -> str:
        return f"L{self.layer}H{self.head}"


Gates = Float[Tensor, "layer batch pos head"]


@torch.no_grad()
def mean_outputs(
    model: TransformerBridge, tokens: Int[Tensor, "reference pos"], group: Int[Tensor, " reference"]
) -> Float[Tensor, "layer group pos head d_head"]:
    """Average output of every head over reference prompts, for each group of prompts and each position.

    Args:
        model: any causal decoder that TransformerLens loads.
        tokens: the reference prompts.
        group: of each, a number from 0, every number up to the largest used. Prompts in which a position
            means the same belong together, such as those made from one sentence.

    Raises:
        ValueError: if a number in between has no prompt, or the sizes differ.

    Example:
        >>> group = torch.arange(len(prompts)) // 2  # two prompts made from each sentence
        >>> mean_outputs(model, prompts.tokens, group).shape[:2] == (model.cfg.n_layers, 4)
        True
    """
    sizes = torch.bincount(group)
    if len(group) != len(tokens) or not bool(sizes.all()):
        raise ValueError(
            f"Expected a group for each of {len(tokens)} prompts and no empty group; got {len(group)} "
            f"prompts with {sizes.tolist()}."
        )
    outputs: dict[int, Tensor] = {}
    forward(model, tokens, [keep(outputs, _heads(model))])
    z = torch.stack([outputs[layer] for layer in range(model.cfg.n_layers)])
    z = in_float(z)
    sums = z.new_zeros(len(z), len(sizes), *z.shape[2:]).index_add_(1, group.to(z.device), z)
    return sums / sizes.to(z)[:, None, None, None]


def gates_at(
    model: TransformerBridge,
    nodes: Iterable[Node],
    positions: Mapping[str, Int[Tensor, " batch"]],
    length: int,
) -> Gates:
    """Gates open at the nodes and shut everywhere else.

    Args:
        positions: by name, where each prompt has it.
        length: of the prompts, in tokens.

    Raises:
        KeyError: naming the positions there are, if a node names another.

    Example:
        >>> gates = gates_at(model, [Node(1, 2, "end")], prompts.positions, prompts.tokens.shape[1])
        >>> gates[1, :, -1, 2]
        tensor([1., 1., 1., 1., 1., 1., 1., 1.])
        >>> gates.sum()
        tensor(8.)
    """
    batch = len(next(iter(positions.values())))
    gates = torch.zeros(model.cfg.n_layers, batch, length, model.cfg.n_heads, device=model.cfg.device)
    rows = torch.arange(batch, device=gates.device)
    for node in nodes:
        if node.where not in positions:
            raise KeyError(f"No position {node.where!r}; there is {', '.join(positions)}.")
        gates[node.layer, rows, positions[node.where], node.head] = 1
    return gates


def gated_logit_diff(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    answer_tokens: Int[Tensor, "batch 2"] | AnswerMetric,
    gates: Gates,
    means: Float[Tensor, "layer batch pos head d_head"],
) -> Float[Tensor, " batch"]:
    """Logit difference of each prompt, with every head behind its gate.

    Args:
        answer_tokens: (right, wrong) of each prompt; or a task's metric, which is measured instead.
        gates: 1 leaves a head's output, 0 replaces it by its mean, and values between mix the two.
        means: what replaces each prompt's outputs: ``mean_outputs(…)[:, group]``.

    Raises:
        ValueError: if gates or means do not fit the model and the prompts.

    Example:
        >>> group = torch.arange(len(prompts)) // 2
        >>> means = mean_outputs(model, prompts.tokens, group)[:, group]
        >>> opened = torch.ones(means.shape[:-1])  # nothing is ablated
        >>> values = gated_logit_diff(model, prompts.tokens, prompts.answer_tokens, opened, means)
        >>> torch.allclose(values.mean(), prompts.metric()(logits[:, -1]), atol=1e-3)
        True
    """
    return gated_logit_diffs(model, tokens, answer_tokens, [gates], means)[0]


def gated_logit_diffs(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    answer_tokens: Int[Tensor, "batch 2"] | AnswerMetric,
    settings: Sequence[Gates],
    means: Float[Tensor, "layer batch pos head d_head"],
    *,
    on: Pool | None = None,
) -> Float[Tensor, "setting batch"]:
    """:func:`gated_logit_diff` for several settings of the gates, together.

    Below the lowest layer in which a setting differs from the first one, the two are the same and run
    once: settings that differ late cost little.

    Raises:
        ValueError: if a setting or the means do not fit the model and the prompts; if there is none.

    Example:
        >>> group = torch.arange(len(prompts)) // 2
        >>> means = mean_outputs(model, prompts.tokens, group)[:, group]
        >>> opened = torch.ones(means.shape[:-1])
        >>> settings = [opened, 0 * opened]  # all gates open, all shut
        >>> gated_logit_diffs(model, prompts.tokens, prompts.answer_tokens, settings, means).shape
        torch.Size([2, 8])
    """
    shape = (model.cfg.n_layers, *tokens.shape, model.cfg.n_heads)
    shapes = {tuple(gates.shape) for gates in settings}
    if shapes != {shape} or means.shape != (*shape, model.cfg.d_head):
        raise ValueError(
            f"Expected gates [layer, batch, pos, head] = {shape}, and means with d_head = "
            f"{model.cfg.d_head} after it; got {', '.join(map(str, shapes)) or 'no gates'} and "
            f"{tuple(means.shape)}."
        )
    some = max(1, ROWS_AT_ONCE_UNGRADED // len(settings))
    parts = [part.tolist() for part in torch.arange(len(tokens)).split(some)]
    gated = _GatedRuns(tokens, metric_of(answer_tokens), list(settings), means)
    names = [f"prompts {part[0]} to {part[-1]}" for part in parts]
    work = Work("gated runs", gated, parts, names, [len(part) for part in parts])
    found = dict(finished(model, work, on=on, progress=False))
    return torch.cat([found[index].to(model.cfg.device) for index in range(len(parts))], dim=1)


@dataclass(frozen=True)
class _GatedRuns:
    """What runs with gates share. A task is the numbers of some prompts."""

    tokens: Int[Tensor, "batch pos"]
    metric: AnswerMetric
    settings: list[Gates]
    means: Float[Tensor, "layer batch pos head d_head"]

    def prepare(self, model: TransformerBridge) -> Run:
        device = model.cfg.device
        tokens, means = self.tokens.to(device), self.means.to(device)
        settings = [gates.to(device) for gates in self.settings]

        def run(rows: list[int], tick: Callable[..., object]) -> Float[Tensor, "setting some"]:
            gates = [setting[:, rows] for setting in settings]
            metric = metric_rows(self.metric, torch.tensor(rows))
            values = _gated(model, tokens[rows], metric, gates, means[:, rows])
            tick(len(rows))
            return values

        return run


def _gated(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    metric: AnswerMetric,
    settings: Sequence[Gates],
    means: Float[Tensor, "layer batch pos head d_head"],
) -> Float[Tensor, "setting batch"]:
    """As above, in one forward pass; the batch gains a setting's copy where it parts from the first."""
    top = model.cfg.n_layers - 1
    parts_at = [0] + [
        min(
            (layer for layer in range(top) if not torch.equal(gates[layer], settings[0][layer])),
            default=top,
        )
        for gates in settings[1:]
    ]
    order = sorted(range(len(settings)), key=parts_at.__getitem__)  # stable: the first one stays first
    embedded = model(tokens, stop_at_layer=0)

    def grow(resid: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        copies = parts_at.count(layer)
        if layer == 0:
            return embedded.repeat(copies, 1, 1)
        return torch.cat([resid, resid[: len(tokens)].repeat(copies, 1, 1)])

    def gate(z: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        running = torch.stack([settings[i][layer] for i in order if parts_at[i] <= layer])
        z = z.unflatten(0, (len(running), len(tokens)))
        mixed = means[layer] + running[..., None] * (z - means[layer])
        return mixed.flatten(0, 1).to(z.dtype)

    every_layer = range(model.cfg.n_layers)
    hooks: list[Hook] = [
        (hook_names_of(model, "resid_pre", every_layer), grow),
        (_heads(model), gate),
    ]
    # One prompt in, as in helpers.replay: masks and position embeddings broadcast to what it grows to.
    final, _ = forward(model, tokens[:1], hooks)
    final = final.unflatten(0, (len(settings), len(tokens)))
    in_order = measure(model, metric, final)
    return in_order[torch.tensor(order, device=in_order.device).argsort()]


def gate_attribution(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    answer_tokens: Int[Tensor, "batch 2"] | AnswerMetric,
    means: Float[Tensor, "layer batch pos head d_head"],
    *,
    steps: int = 8,
    progress: bool | None = None,
) -> Gates:
    """What each gate contributes while all of them open together: integrated gradients over gates.

    The gradient of the logit difference by a gate, averaged over all gates' way from 0 to 1 ("Axiomatic
    Attribution for Deep Networks", Sundararajan et al., 2017). For each prompt the contributions sum to
    the logit difference of the whole model minus that with every head ablated, up to the error of a sum
    of ``steps`` midpoints. A contribution includes what goes through later heads, as far as they are
    open.

    Raises:
        ValueError: if ``steps`` is less than 1, or the shapes do not fit.

    Example:
        >>> group = torch.arange(len(prompts)) // 2
        >>> means = mean_outputs(model, prompts.tokens, group)[:, group]
        >>> gates = gate_attribution(model, prompts.tokens, prompts.answer_tokens, means, steps=2)
        >>> gates.shape == means.shape[:-1]  # layer, prompt, position, head
        True
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}.")
    metric = metric_of(answer_tokens)
    chunks = torch.arange(len(tokens)).split(ROWS_AT_ONCE)
    total = in_float(means).new_zeros(means.shape[:-1])
    with progress_bar("gate attribution", steps * len(chunks), progress) as bar, torch.enable_grad():
        for rows in chunks:
            for step in range(steps):
                opened = (step + 0.5) / steps
                gates = torch.full_like(total[:, rows], opened, requires_grad=True)
                value = gated_logit_diff(
                    model, tokens[rows], metric_rows(metric, rows), gates, means[:, rows]
                )
                (gradient,) = torch.autograd.grad(value.sum(), gates)
                total[:, rows] += gradient / steps
                bar.update()
    return total


def _heads(model: TransformerBridge) -> set[str]:
    return hook_names_of(model, "z", range(model.cfg.n_layers))
