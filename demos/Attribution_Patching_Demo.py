# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Cheap and exact side by side: attribution patching, edges, and a circuit found by itself
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ioi-exploration-demos/ioi-exploration-demos/blob/main/demos/Attribution_Patching_Demo.ipynb)
#
# Activation patching asks for one run of the model per question. Its shortcut, *attribution patching*, asks the gradient
# once and answers all questions. Everybody uses it on models where the exact answer takes too long to wait for, so hardly
# anybody sees how far off it is. Here the exact answer is cheap enough to stand beside it.
#
# **What you will do.** Estimate patches by gradient, at heads, queries, keys, values, patterns, MLPs and the residual
# stream, and hold each against the exact patch; find out what bends where they part; go on to *edges* between parts; let
# both kinds of scores find a circuit, and test it on prompts that took no part.
#
# **What you will learn.** Which estimates to trust on this task, what a few more gradients mend, what patching in the
# other direction finds, and what "path patching" means to whom.
#
# **What you need.** The task is that of the [exploratory demo](Exploratory_Analysis_Demo.ipynb). Nothing below names a head
# or a measurement: the cells print what they found on the model that is loaded.

# %% [markdown]
# ## 1. Setup
#
# On Colab this cell installs the package that the notebook imports; it keeps the PyTorch that is there. Anywhere
# else it only looks whether that package is there, and not hidden by a file or folder of yours called `helpers`.

# %%
import sys
from importlib.util import find_spec
from pathlib import Path

from IPython import get_ipython

repository = "https://github.com/ioi-exploration-demos/ioi-exploration-demos"
if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", f"install -q git+{repository}")

found = find_spec("helpers")
if found is None or not (Path(found.origin or "").parent / "head_scores.py").is_file():
    raise ImportError(
        f"This notebook imports `helpers` of {repository}, and Python finds "
        f"{getattr(found, 'origin', None) or found} instead. Rename a `helpers` of your own, "
        f"or pip install git+{repository}; then restart the kernel."
    )

# %%
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from helpers.findings import attribution as findings
from helpers.head_scores import Head, top_heads
from helpers.ioi.dataset import sample_ioi
from helpers.logit_diff import normalise
from helpers.models import load_model
from helpers.plotting import circuit_graph, intervals, line, scatter
from helpers.tables import head_table, show_table
from helpers.wording import say

_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## 2. The task, and the scale of everything
#
# Indirect Object Identification: "When John and Mary went to the shops, John gave the bag to" goes on with *Mary*. In the
# corrupted prompts the other name is repeated, so that the wrong answer becomes the right one. A few prompts are for
# finding things, others for testing them.

# %%
model = load_model()
n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
people = sample_ioi(model, 16, seed=0)
everything = people.task(model, people.swapped_subject)
task, held_out = everything.select(range(4)), everything.select(range(4, 16))
tokens, corrupted_tokens, metric = task.tokens, task.corrupted_tokens, task.metric()
say(f"{model.cfg.model_name}: {task}")
show_table(task.table.head(2).T)

# %% [markdown]
# Zero is the corrupted run, one is the clean run. What is patched comes from the clean run and goes into the corrupted one
# (*denoising*), unless we say otherwise.

# %%
clean, corrupted = metric(model(tokens)[:, -1]), metric(model(corrupted_tokens)[:, -1])


def restored(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The part of the difference between corrupted and clean that a patch brings back."""
    return normalise(value, clean=clean, corrupted=corrupted)


print(f"logit difference: clean {clean:+.2f}, corrupted {corrupted:+.2f}")

# %% [markdown]
# ## 3. The idea, in one cell
#
# Take the metric for a function of one activation. Near the corrupted run it is nearly linear, so a patch should change it
# by the gradient times the difference between the runs. One forward pass of each run and one backward pass give that
# for *every* activation (Neel Nanda, "Attribution Patching: Activation Patching At Industrial Scale", 2023). Here it is by
# hand, for the output of every head.


# %%
def heads_in_graph(run_tokens) -> tuple[Tensor, list[Tensor]]:
    """The metric of a run, and every layer's head outputs that it was computed from."""
    kept = []

    def keep(z: Float[Tensor, "batch pos head d_head"], hook) -> Tensor:
        kept.append(z)
        return z  # TransformerLens reshapes it: what is returned is what the model goes on with

    hooks = [(lambda name: name.endswith("attn.hook_z"), keep)]
    return metric(model.run_with_hooks(run_tokens, fwd_hooks=hooks)[:, -1]), kept


with torch.enable_grad():
    value, z_corrupted = heads_in_graph(corrupted_tokens)
    gradients = torch.autograd.grad(value, z_corrupted)
_, z_clean = heads_in_graph(tokens)
triples = zip(z_corrupted, z_clean, gradients)
by_hand = torch.stack([((to - of) * slope).sum((0, 1, 3)) for of, to, slope in triples]).detach()

# %% [markdown]
# `attribution_sweep` is the same for any site, with the arguments of `patch_sweep`, the exact one. So each estimate can be
# held against what it estimates.
#
# **What would falsify it.** If the model were far from linear between these two runs, the points would not lie on the
# dotted line, and the heads that stick out on one axis would not on the other.

# %% tags=["thumbnail"]
from helpers.attribution import attribution_sweep
from helpers.patching import patch_sweep

runs = corrupted_tokens, tokens
estimated = {"z": restored(attribution_sweep(model, *runs, "z", metric))}
exact = {"z": restored(patch_sweep(model, *runs, "z", metric))}
torch.testing.assert_close(by_hand / (clean - corrupted), estimated["z"], atol=1e-4, rtol=1e-3)
title = "Each head's output, patched: the gradient's estimate against the exact effect"
axes = {"x": "restored, exactly", "y": "restored, as estimated"}
scatter(exact["z"], estimated["z"], title=title, **axes, diagonal=True)
ten = top_heads(exact["z"], 10, by_size=True)
say(findings.overlooked({head.name: (head.value, estimated["z"][head[:2]].item()) for head in ten}))

# %% [markdown]
# ## 4. Every site
#
# The same at a head's query, key, value and pattern, and by position at the residual stream, at what attention adds and at
# what the MLP adds. How many runs of the model does each way take?

# %%
for site in ["resid_pre", "attn_out", "mlp_out", "q", "k", "v", "pattern"]:
    estimated[site] = restored(attribution_sweep(model, *runs, site, metric))
    exact[site] = restored(patch_sweep(model, *runs, site, metric))

# %%
from helpers.attribution import agreement

rows = {site: (exact[site].numel(), *agreement(exact[site], estimated[site])) for site in exact}
columns = ["patches", "rank correlation", "of top ten", "mean error / effect"]
sites = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
show_table(sites.rename_axis("site"))
say(findings.agreement(sites["rank correlation"].to_dict()))
say(findings.top_ten(sites["of top ten"].to_dict()))

# %% [markdown]
# Each row took as many patched runs as it has patches, with all prompts each, or three passes: two forward, one backward.
# (The sweep shares work between its runs; `make bench` has the seconds.)
#
# ## 5. What bends?
#
# **Where a head looks** goes through a softmax. If a head looks at one token with all its attention, a small change of its
# query moves nothing, and the gradient says so, though the whole change would move it elsewhere. We can ask whether that
# is the reason: compute the head's own output under the patch exactly, and use the gradient only from there on.


# %%
_, clean_cache = model.run_with_cache(tokens)


def own_outputs(site: str, layer: int, head: int) -> Float[Tensor, "batch pos head d_head"]:
    """What a layer's heads say in the corrupted run when one query or key is the clean one."""

    def patch(activation, hook):
        activation[:, :, head] = clean_cache[site, layer][:, :, head]
        return activation

    z = f"blocks.{layer}.attn.hook_z"
    with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_{site}", patch)]):
        return model.run_with_cache(corrupted_tokens, names_filter=z)[1][z]


# %%
off = {}
for site in ["q", "k"]:
    for layer, head, _ in top_heads(exact[site] - estimated[site], 5, by_size=True):
        change = own_outputs(site, layer, head) - z_corrupted[layer].detach()
        guess = (change * gradients[layer]).sum() / (clean - corrupted)
        effects = exact[site][layer, head], estimated[site][layer, head], guess
        off[f"L{layer} {site}{head}"] = [effect.item() for effect in effects]
worst = pd.DataFrame.from_dict(off, orient="index", columns=["exact", "estimate", "own output"])
worst["what bends"] = worst.apply(findings.blame, axis="columns")
show_table(worst.rename_axis("input"), signed=True)
say(findings.blamed(list(worst["what bends"])))

# %% [markdown]
# **How far the step goes.** The residual stream before a layer changes a lot at once, and every norm and softmax after it
# sees the change. Go only part of the way, and watch the effect grow. A straight line is what the gradient takes it for.


# %%
shares = torch.linspace(0, 1, 6)


def along(site: str, layer: int, position: int) -> Float[Tensor, " share"]:
    """What is restored after each share of the step from the corrupted to the clean activation."""

    def patch(activation, hook):
        copies = activation[:, position].unflatten(0, (len(shares), -1))  # of the prompts
        copies += shares[:, None, None].to(copies) * (
            clean_cache[site, layer][:, position] - copies
        )
        return activation

    hooks = [(f"blocks.{layer}.hook_{site}", patch)]
    logits = model.run_with_hooks(corrupted_tokens.repeat(len(shares), 1), fwd_hooks=hooks)[:, -1]
    return restored(torch.stack([metric(of_share) for of_share in logits.chunk(len(shares))]))


# %%
curves, bends = {}, []
for site in ["resid_pre", "attn_out", "mlp_out"]:
    miss = (exact[site] - estimated[site]).abs()
    layer, position = divmod(int(miss.argmax()), miss.shape[1])
    name, slope = f"{site} {layer}, position {position}", estimated[site][layer, position].item()
    curves[name] = along(site, layer, position)
    bends.append(findings.bend(name, curves[name].tolist(), slope))
title, x = "The worst estimate of each kind: the effect along the step", "share of the step"
line(curves, title=title, x=x, y="restored", x_labels=[f"{share:.1f}" for share in shares.tolist()])
say("\n".join(bends))

# %% [markdown]
# ## 6. A few more gradients
#
# *Integrated gradients*: take the gradient not only in the corrupted run but at a few points on the way to the clean one,
# in runs whose embeddings lie between the two, and average. A softmax that is saturated at the start is not so on the
# way.
#
# **What would falsify it.** If the estimates were off because a patch moves one activation *alone*, while on the way all
# move together, more points would not help.

# %%
before, after = {}, {}
for site in ["resid_pre", "mlp_out", "z", "q"]:
    guess = restored(attribution_sweep(model, *runs, site, metric, steps=4))
    before[site] = agreement(exact[site], estimated[site]).error
    after[site] = agreement(exact[site], guess).error
errors = pd.DataFrame({"one gradient": before, "four on the way": after})
show_table(errors.rename_axis("mean error / effect"))
say(findings.mended(before, after))

# %% [markdown]
# ## 7. The other direction
#
# *Noising* asks the reverse: run the clean prompts, and let one head say what it says on corrupted ones. What is lost?
# Denoising finds what is *enough* to bring something back, noising what is *needed*. Where heads stand in for each other
# (one **or** the other), taking one out costs little, though putting it in helps. Where they need each other (one **and**
# the other), putting one in helps little.

# %%
lost = 1 - restored(patch_sweep(model, tokens, corrupted_tokens, "z", metric))
lost_estimated = 1 - restored(attribution_sweep(model, tokens, corrupted_tokens, "z", metric))
strongest = top_heads(exact["z"], 8, by_size=True) + top_heads(lost, 8, by_size=True)
columns = {"restored": exact["z"], "estimated restored": estimated["z"]}
columns |= {"lost": lost, "estimated lost": lost_estimated}
table = head_table(sorted({head[:2] for head in strongest}), columns)
table["found"] = [findings.direction(*pair) for pair in zip(table["restored"], table["lost"])]
show_table(table, signed=True)
say(findings.one_way(table["found"].to_dict()))

# %% [markdown]
# Is it backup? If heads stand in for each other, taking them all out at once costs more than the sum of what each costs.


# %%
def lost_without(heads: list[tuple[int, int]]) -> float:
    """What the clean run loses when some heads say what they say on corrupted prompts."""

    def noise(z, hook):
        of_layer = [head for layer, head in heads if layer == hook.layer()]
        z[:, :, of_layer] = z_corrupted[hook.layer()][:, :, of_layer]
        return z

    hooks = [(lambda name: name.endswith("attn.hook_z"), noise)]
    return 1 - restored(metric(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1])).item()


helpful = [head[:2] for head in top_heads(exact["z"], 8)]
alone = sum(lost[head].item() for head in helpful)
say(findings.stand_ins(alone=alone, together=lost_without(helpful), count=len(helpful)))

# %% [markdown]
# ## 8. Edges
#
# A head that matters hears somebody. An *edge* is one part's share in what another one reads: a head's query, key or value,
# an MLP, or the logits. Senders are heads, MLPs and the embeddings. The gradient gives all of them at once, as before: the
# sender's change times the gradient at what the receiver reads (*edge attribution patching*, Syed et al.
# [2023](https://arxiv.org/abs/2310.10348)); with gradients on the way it is EAP-IG (Hanna et al.
# [2024](https://arxiv.org/abs/2403.17806)). Where query heads share keys and values, as in many models after GPT-2,
# TransformerLens's own `attribution_patch` refuses edges; here each query head is taken apart.

# %%
from helpers.edges.estimated import edge_attribution
from helpers.edges.graph import possible_edges, readers, strongest_edges, strongest_readers, writers

guessed = restored(edge_attribution(model, *runs, metric))
on_the_way = restored(edge_attribution(model, *runs, metric, steps=4))
say(
    f"{int(possible_edges(model).sum()):,} edges, from {len(writers(model))} senders to "
    f"{len(readers(model))} inputs, estimated from one run's gradients."
)

# %% [markdown]
# Exactly, an edge costs a run from its receiver upwards, on every prompt. Measuring all of them
# (`edge_sweep(model, *runs, readers(model), metric)`) takes patience, or a GPU. Here we take those *into the inputs that
# matter*: the ones that restore most when the whole input is patched, and the logits.

# %%
from helpers.edges.exact import edge_sweep

into = [*strongest_readers(model, exact, 10), readers(model)[-1]]
rows = [readers(model).index(reader) for reader in into]
measured = restored(edge_sweep(model, *runs, into, metric))

# %%
names = [f"{writer.name} → {reader.name}" for reader in into for writer in writers(model)]
title = "Each edge into these inputs: the gradient's estimate against the exact effect"
scatter(measured, guessed[rows], names=names, title=title, **axes, diagonal=True)
exact_edges = strongest_edges(model, measured, 1000, among=into)
guessed_edges = strongest_edges(model, guessed[rows], 1000, among=into)
agree = agreement(measured, guessed[rows], top=50)
say(findings.edges_agree(rank=agree.rank, kept=agree.kept, of=50))

# %% [markdown]
# ## 9. A circuit, found by itself
#
# Keep the strongest edges and cut the others: along a cut edge, a sender says what it says on the corrupted prompt. Is that
# enough for the task? Zero is the model with every edge cut, one is the whole model, and the prompts are those that took
# no part in choosing.
#
# First among the edges into the inputs that were measured, the logits included; all other edges stay. Here exact scores
# and estimates choose from the same edges.
#
# **What would falsify it.** If scores of single edges said nothing about circuits, keeping more of them would not keep more
# of the task; and if the estimates were as good as the exact scores, the curves would lie on each other.

# %%
from helpers.edges.circuit import faithfulness
from helpers.edges.graph import edge_mask
from helpers.edges.writes import writes

said = {"corrupted": writes(model, held_out.corrupted_tokens)}
said["average"] = said["corrupted"].mean()
by_prompt = held_out.metric(per_prompt=True)


def show_kept(circuits: dict[str, list[Tensor]], sizes: list[int], title: str) -> None:
    """What circuits of some sizes keep, for each way of choosing; and how many edges are enough."""
    kept = torch.stack([torch.stack(of_sizes) for of_sizes in circuits.values()])
    shares = faithfulness(model, held_out.tokens, kept, said["corrupted"], by_prompt)
    curves = {way: shares.at(i) for i, way in enumerate(circuits)}
    look = {"x": "edges kept, not to scale", "y": "share of the task kept", "connect": True}
    intervals(curves, title=title, labels=list(map(str, sizes)), reference=1.0, **look)
    plain = {way: [curve.at(i).plain() for i in range(len(sizes))] for way, curve in curves.items()}
    say(findings.smallest(plain, sizes))


# %%
not_measured = possible_edges(model)
not_measured[rows] = False
ways = {"exact": exact_edges, "gradient": guessed_edges}
ways["gradients on the way"] = strongest_edges(model, on_the_way[rows], 1000, among=into)
sizes = [30, 100, 300, 1000]
circuits = {
    way: [edge_mask(model, edges[:size]) | not_measured for size in sizes]
    for way, edges in ways.items()
}
title = "What the strongest edges into these inputs keep of the task, on held-out prompts"
show_kept(circuits, sizes, title)

# %% [markdown]
# Then among **all** edges, which only the gradient has scored. Edges that lie on no way from the embeddings to the logits
# do nothing and are not counted.

# %%
from helpers.edges.graph import heads_on, on_a_path

scores = {"gradient": guessed, "gradients on the way": on_the_way}
sizes = [100, 300, 1000, 3000]
found = {
    way: [on_a_path(model, strongest_edges(model, values, size)) for size in sizes]
    for way, values in scores.items()
}
circuits = {way: [edge_mask(model, edges) for edges in of_sizes] for way, of_sizes in found.items()}
show_kept(circuits, sizes, "What the strongest of all edges keep of the task, on held-out prompts")
counts = pd.DataFrame({way: map(len, of_sizes) for way, of_sizes in found.items()}, index=sizes)
show_table(counts.rename_axis("of so many, on a path"))

# %% [markdown]
# Is the circuit of a thousand edges *complete*: is anything left of the task without it? And does it depend on what
# stands in the place of the edges that were cut, the corrupted prompt or an average over prompts? (Each has its own
# zero: what the model prefers without any edge depends on what stands there instead.)

# %%
circuit = edge_mask(model, found["gradients on the way"][2])
both = torch.stack([possible_edges(model) & ~circuit, circuit])
shares = faithfulness(model, held_out.tokens, both, said["corrupted"], by_prompt)
averaged = faithfulness(model, held_out.tokens, circuit, said["average"], by_prompt)
say(findings.complete(shares.at(0).plain()))
say(findings.by_ablation(shares.at(1).plain(), averaged.plain()))

# %% [markdown]
# The exact edges, drawn: the strongest ones that join what was measured. A column is a head's number, a row its layer.

# %%
from helpers.edges.drawing import edge_drawing

title = "The strongest edges, exactly measured, and what each restores"
drawing = edge_drawing(model, exact_edges[:20])
circuit_graph(**drawing, title=title, x="head", y="layer", height=900)

# %% [markdown]
# ## 10. Beside other ways of finding a circuit
#
# The [demo on hundreds of prompts](IOI_At_Scale_Demo.ipynb) opens gates behind heads, and orders heads by what their gates
# contribute. That asks another question: of *heads*, with MLPs left whole, against the average over prompts. Do the same
# heads come out?

# %%
from helpers.circuit import gate_attribution, mean_outputs
from helpers.ioi.record import published_circuit

one_group = torch.zeros(len(task), dtype=torch.long, device=model.cfg.device)
means = mean_outputs(model, corrupted_tokens, one_group).expand(-1, len(task), -1, -1, -1)
by_gate = gate_attribution(model, tokens, metric, means, steps=4).sum(2).mean(1)
published = published_circuit()
count = len({head for heads in published.values() for head in heads})

circuits = {way: {*heads_on(of_sizes[-1])[:count]} for way, of_sizes in found.items()}
circuits["exact edges"] = {*heads_on(exact_edges)[:count]}
circuits["gates"] = {head.name for head in top_heads(by_gate, count, by_size=True)}
common = {
    way: {other: len(heads & circuits[other]) for other in circuits}
    for way, heads in circuits.items()
}
show_table(pd.DataFrame(common).rename_axis(f"of {count} heads, in common"))
shared, by_chance = common["gates"]["gradient"], count**2 / (n_layers * n_heads)
say(findings.heads_in_common(shared, count, by_chance))

# %% [markdown]
# For GPT-2 small there is a published circuit (Wang et al. [2022](https://arxiv.org/abs/2211.00593)). Which of its heads
# does each way return? On other models the table has the published heads alone.

# %%
names = {kind: [Head(*head, 0.0).name for head in heads] for kind, heads in published.items()}
table = pd.DataFrame({"published for GPT-2 small": pd.Series(names).map(", ".join)})
for way, heads in circuits.items() if model.cfg.model_name == "gpt2" else ():
    table[way] = [f"{len(heads & {*of_kind})} of {len(of_kind)}" for of_kind in names.values()]
show_table(table.rename_axis("kind"))

# %% [markdown]
# ## 11. What does "path patching" freeze?
#
# | | between sender and receiver | a shared key or value |
# | --- | --- | --- |
# | Wang et al. ([2022](https://arxiv.org/abs/2211.00593)) | heads are frozen, **MLPs are computed anew** | (GPT-2 has none) |
# | ARENA's exercises on it | the same | would change for all its query heads |
# | TransformerLens, `get_act_patch_direct_path` | nothing: the residual stream alone | refused |
# | here, `path_patch_sweep` and `edge_sweep` | nothing: the residual stream alone | changes for one head |
#
# In all four the receiver's layer norm is computed anew, and so is everything after it. For the strongest edge from a head
# to a head:

# %%
from helpers.edges.definitions import path_through_mlps

edge = next(edge for edge in exact_edges if None not in (edge.writer.head, edge.reader.head))
path = edge.writer, edge.reader[:2], edge.reader.through
effects = {"here, TransformerLens": edge.value}
for name, for_its_group in {"MLPs anew": False, "MLPs anew, for the whole group": True}.items():
    effect = path_through_mlps(model, *runs, *path, metric, for_its_group=for_its_group)
    effects[name] = restored(effect).item()
show_table(pd.DataFrame({edge.name: effects}).rename_axis("definition"), signed=True)
say(findings.definitions(effects))

# %% [markdown]
# *What it does not show.* Estimates were judged on one task, where the two runs differ in one name; a corruption that
# changes more is a longer step, and gradients fare worse. Edges were scored one at a time: edges that stand in for each
# other look small. And a circuit that keeps the logit difference may lose the rest of the prediction.
#
# ## 12. Your turn
#
# <details><summary>1. Your own task</summary>
#
# Nothing after section 2 names IOI but the published heads. Take `task` and `held_out` from the
# [demo on a task of your own](Your_Own_Task_Demo.ipynb).
#
# </details>
#
# <details><summary>2. Does a longer step make estimates worse?</summary>
#
# Corrupt all three names: `people.task(model, people.random_names)`. Compare the table of section 4.
#
# </details>
#
# <details><summary>3. Choose edges by a threshold instead of a number.</summary>
#
# `[edge for edge in strongest_edges(model, on_the_way, 10**6) if abs(edge.value) >= 0.01]`. How many are left, and how many
# of them on a path?
#
# </details>
