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
# # Does the circuit hold up? Indirect Object Identification on hundreds of prompts
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ioi-exploration-demos/ioi-exploration-demos/blob/main/demos/IOI_At_Scale_Demo.ipynb)
#
# Eight prompts are enough to get ideas. Here we take the ideas to a few hundred prompts, put an interval around every
# number, and ask the question that turns a list of heads into a claim: if these heads are all that works, does the
# model still do the task?
#
# **What you will do.** Draw prompts from templates; measure the task with confidence intervals; write down what would
# count as a failed finding and then look; find a circuit by one criterion and measure how much of the behaviour it
# keeps; and knock its parts out, one class at a time.
#
# **What you will learn.** How far an eight-prompt finding can be trusted, what *faithful* and *minimal* mean as
# measurements, and why a circuit that scores better than the whole model is no good news.
#
# **What you need.** The ideas of
# [Exploratory Analysis](Exploratory_Analysis_Demo.ipynb): the logit difference, direct attribution, activation
# patching. Two cores and a few minutes; memory stays below that of a browser with many tabs.
#
# As there, the prose names no head and no measurement: what is said about a run is printed by the cell that measured it.

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
from jaxtyping import Float, Int
from torch import Tensor

from helpers.circuit import Node, gate_attribution, gated_logit_diffs, gates_at, mean_outputs
from helpers.findings import scale as findings
from helpers.head_scores import Head, top_heads
from helpers.intervals import Interval, mean_interval, stack_intervals
from helpers.ioi.dataset import sample_ioi
from helpers.ioi.prompts import reference_prompts
from helpers.logit_diff import LogitDiff, logit_diff
from helpers.models import load_model
from helpers.plotting import intervals, scatter
from helpers.tables import show_table
from helpers.wording import say

_ = torch.set_grad_enabled(False)
model = load_model()
print(f"{model.cfg.model_name}: {model.cfg.n_layers} layers of {model.cfg.n_heads} attention heads")

# %% [markdown]
# ## 2. Prompts by the hundred
#
# `sample_ioi` fills sentence frames with names, places and objects. A few decisions are built in, because each of them
# can spoil a result:
#
# - only names that are **one token** of this model, since the metric compares two tokens;
# - only frames of **one length**, so that all prompts run in one batch without padding;
# - as many prompts in which the indirect object is named *first* (order ABBA) as *second* (BABA), for each frame;
# - all prompts are different, and **one seed** fixes them on every machine.
#
# We split the sample at once. One part is for *choosing* heads, the other for *measuring* them. A head that is chosen
# because it looks strong will look weaker on new prompts, by luck alone; measuring on prompts that took no part in the
# choice avoids that.

# %%
everything = sample_ioi(model, 256, seed=0)
screening, sample = everything.select(range(48)), everything.select(range(48, 256))
table = pd.DataFrame({"order": sample.order, "prompt": sample.prompts})
show_table(table.groupby("order").head(3).sort_values("order").set_index("order"))
print(f"{len(screening)} prompts to choose with, {len(sample)} to measure with")
show_table(pd.crosstab(sample.frame.tolist(), sample.order, rownames=["frame"], colnames=["order"]))

# %%
try:
    sample_ioi(model, 10**9, seed=0)
except ValueError as refusal:
    say(f"And if one asks for too many:\n{refusal}")

# %% [markdown]
# Each prompt comes with three corrupted variants, for three questions:
#
# - **swapped subject**: the *other* name is repeated. The right answer becomes the wrong one. For patching.
# - **third name**: a third name stands in the place of the repetition, so nobody is repeated and nobody is the answer.
# - **random names**: three new names at all three places. The sentence is kept, everything about *these* people is gone.
#   This is the paper's ABC distribution; the averages for ablation will come from it.


# %%
def variants(prompts) -> dict[str, Int[Tensor, "prompt pos"]]:
    """The prompts as sampled, and what can be compared with them."""
    return {
        "as sampled": prompts.tokens,
        "swapped subject": prompts.swapped_subject,
        "third name": prompts.third_name,
        "random names": prompts.random_names,
    }


first = {what: model.to_str_tokens(tokens[0, 1:]) for what, tokens in variants(sample).items()}
show_table(pd.DataFrame({"first prompt": {what: "".join(words) for what, words in first.items()}}))
where = {
    name: [int(at[0]), first["as sampled"][at[0] - 1]] for name, at in sample.positions.items()
}
show_table(pd.DataFrame(where, ["position in the first prompt", "token there"]))

# %% [markdown]
# ## 3. Can it still do the task?
#
# **Question.** Is the logit difference on eight prompts what one gets on other sentences, with other names, and in both
# orders?
#
# **What we would expect.** If the eight prompts were representative, their interval, wide as it is, holds the sample's
# average, and frames and orders look alike. If the model leans on something special about a sentence, frames will differ
# by more than their intervals.
#
# <details><summary>★ What a bootstrap interval says</summary>
#
# Draw prompts with replacement from those we have, as many as we have, and take the mean; do it a few thousand times;
# the middle of those means is the interval. It answers "what if I had drawn *other prompts from this generator*?" It
# does not answer "what about other sentences?": frames that we did not write are not in it. The figure by frame gives
# an idea of how much that could matter. And when all prompts succeed, the interval for accuracy has no width, which is
# not the same as certainty: with $n$ prompts out of $n$ correct, a failure rate up to about $3/n$ is still well
# possible.
#
# </details>


# %%
def logit_diffs(
    tokens: Int[Tensor, "prompt pos"], answer_tokens: Int[Tensor, "prompt 2"]
) -> Float[Tensor, " prompt"]:
    """Logit difference of each prompt, some prompts at a time: logits are large."""
    batches = zip(tokens.split(52), answer_tokens.split(52))
    return torch.cat(
        [logit_diff(model(rows), answers, per_prompt=True) for rows, answers in batches]
    )


eight = reference_prompts(model)
eight_diffs = logit_diffs(eight.tokens, eight.answer_tokens)
diffs = logit_diffs(sample.tokens, sample.answer_tokens)
is_abba = torch.tensor([order == "ABBA" for order in sample.order], device=diffs.device)

# %%
groups = {"eight prompts": eight_diffs, f"sample of {len(sample)}": diffs}
groups |= {"ABBA": diffs[is_abba], "BABA": diffs[~is_abba]}
means = {name: mean_interval(values) for name, values in groups.items()}
ahead = {name: mean_interval((values > 0).float()) for name, values in groups.items()}
show_table(pd.DataFrame({"logit difference": means, "right name ahead (share)": ahead}).map(str))

# %%
blanks = {"first": "A", "second": "B", "subject": "S", "place": "…", "object": "…"}
titles = [frame.format(**blanks) for frame in sample.frames]


def by_frame(rows: Tensor) -> Interval:
    """Mean logit difference of each frame, of the prompts in ``rows``."""
    frames = [rows & (sample.frame == frame) for frame in range(len(titles))]
    return stack_intervals(mean_interval(diffs[prompts]) for prompts in frames)


# %% tags=["thumbnail"]
series = {"ABBA (indirect object first)": by_frame(is_abba)}
series["BABA (subject first)"] = by_frame(~is_abba)
title = "The same task in different sentences: mean and 95 % interval"
x, average = "logit difference (dotted: average of the eight prompts)", eight_diffs.mean().item()
intervals(series, title=title, x=x, y="", labels=titles, horizontal=True, reference=average)

# %%
whole, of_eight = mean_interval(diffs), mean_interval(eight_diffs)
# Rows come in pairs of one frame, ABBA and BABA, so the orders can be compared within frames.
assert torch.equal(sample.frame[is_abba], sample.frame[~is_abba])
order_gap = mean_interval(diffs[is_abba] - diffs[~is_abba])
say(findings.does_the_task(whole.plain()))
say(findings.representative(sample=whole.plain(), eight=of_eight.plain()))
say(findings.order_of_names(order_gap.plain()))

# %% [markdown]
# *What it does not show.* That the model does the task the *same way* in all of these sentences. A large difference
# between the orders is a hint that it may not.
#
# Before the variants are used, the check that they do what they say: with the subject swapped, the difference should turn
# negative; with three other names, our two answers are just two names that the text never mentioned. The screening prompts
# are enough for that.

# %%
screening_diffs = {
    what: logit_diffs(tokens, screening.answer_tokens)
    for what, tokens in variants(screening).items()
}
means = {what: mean_interval(values) for what, values in screening_diffs.items()}
show_table(pd.DataFrame({"logit difference": means}).map(str))

# %% [markdown]
# ## 4. Which of the eight-prompt findings survive?
#
# **Question.** The first notebook singled out heads: by **direct attribution** (what a head writes to the logit
# difference), by **activation patching** (what its clean output restores in the prompts with the subject swapped), and
# by **where they look**. Which of these hold on the sample?
#
# **The criterion, before we look.** Effects are shares of the whole: a head's attribution divided by the logit
# difference, a patch's effect divided by the distance from corrupted to clean. For each finding take the share on the
# eight prompts and the interval of the share on the sample.
#
# - **reversed**: the whole interval lies on the other side of zero;
# - **survives**: the whole interval lies on the same side of zero, and its mean is at least half of the eight prompts';
# - **weaker**: anything else, an interval that holds zero included.
#
# The same verdict is passed within each order, since an average over two different things can survive while neither does.
#
# Attribution first, for every head. The outputs at the last token are projected on each prompt's own direction, and not
# averaged, so that an interval can be made.

# %%
from helpers.accounts import head_attribution

attribution = head_attribution(model, sample.tokens, sample.answer_tokens).to(diffs)
eight_attribution = head_attribution(model, eight.tokens, eight.answer_tokens).to(diffs)
eight_attribution = eight_attribution.mean(-1) / eight_diffs.mean()
attribution_share = mean_interval(attribution, relative_to=diffs)
title = "Direct attribution of every head on eight prompts and on the sample (dotted: the same)"
x, y = (f"share of the logit difference, {prompts}" for prompts in ("eight prompts", "sample"))
share = attribution_share.value
scatter(eight_attribution, share, title=title, x=x, y=y, diagonal=True, annotate=10)

# %%
both = torch.stack([eight_attribution.flatten(), attribution_share.value.flatten()])
clear = (attribution_share.low > 0.001) | (attribution_share.high < -0.001)
print(f"Correlation between the two over all heads: {torch.corrcoef(both)[0, 1]:.2f}")
say(findings.significant(clear=int(clear.sum()), of=clear.numel()))

# %% [markdown]
# Now patching. A sweep over all heads is exact and costs a forward pass of half the model for each head; on all prompts
# that would be minutes. So we sweep all heads on the eight prompts (that is the finding) and on some screening prompts
# (to see whom the eight prompts overlooked), and measure only the heads so found on the sample.

# %%
from helpers.patching import patch_head_outputs, patch_sweep


def restored(
    tokens: Int[Tensor, "prompt pos"], corrupted: Int[Tensor, "prompt pos"], answer_tokens: Tensor
) -> Float[Tensor, "layer head"]:
    """What each head's clean output restores in the corrupted run, as a share of the difference."""
    clean, start = (logit_diffs(run, answer_tokens).mean() for run in (tokens, corrupted))
    values = patch_sweep(model, corrupted, tokens, "z", LogitDiff(answer_tokens))
    return (values - start) / (clean - start)


some = screening.select(range(16))  # one of each frame and order
eight_patching = restored(eight.tokens, eight.corrupted_tokens, eight.answer_tokens)
screening_patching = restored(some.tokens, some.swapped_subject, some.answer_tokens)


# %%
def largest(values: Float[Tensor, "layer head"], count: int) -> list[tuple[int, int]]:
    """The heads of largest magnitude."""
    return [head[:2] for head in top_heads(values.abs(), count)]


def name_of(head: tuple[int, int]) -> str:
    """Such as L0H1."""
    return Head(*head, 0).name


eight_top, screening_top = largest(eight_patching, 8), largest(screening_patching, 8)
candidates = sorted(set(eight_top) | set(screening_top))
say(findings.overlooked([name_of(head) for head in screening_top if head not in eight_top]))

# %%
writers = [head[:2] for head in top_heads(eight_attribution, 3)]
wanted = {f"blocks.{layer}.attn.hook_z" for layer, _ in candidates}
wanted |= {f"blocks.{layer}.attn.hook_pattern" for layer, _ in writers}  # for the next section
_, eight_cache = model.run_with_cache(eight.tokens, names_filter=wanted.__contains__)
_, cache = model.run_with_cache(sample.tokens, names_filter=wanted.__contains__)
patched = patch_head_outputs(
    model,
    sample.swapped_subject,
    candidates,
    [cache["z", layer][:, :, head] for layer, head in candidates],
    LogitDiff(sample.answer_tokens, per_prompt=True),
    positions=range(int(sample.positions["S2"].min()), sample.tokens.shape[1]),  # all equal before
)
print(f"Measured on {len(sample)} prompts: {', '.join(map(name_of, candidates))}.")

# %% [markdown]
# And where the writers look. For the strongest heads by attribution: of the positions that name someone, the one that
# gets most attention from the last token on the eight prompts, and how much it gets on the sample. It counts as a finding
# if it is more than twice what the position would get if the head looked at all positions evenly.

# %%
name_positions = ("IO", "S1", "S2")


def attention_to_names(
    run, prompts, heads: list[tuple[int, int]]
) -> Float[Tensor, "head name prompt"]:
    """Attention from the last token to each mention of a name."""
    patterns = torch.stack([run["pattern", layer][:, number, -1] for layer, number in heads])
    at = torch.stack([prompts.positions[name] for name in name_positions], dim=-1)  # [prompt, name]
    return patterns.gather(2, at.expand(len(heads), -1, -1)).transpose(1, 2)


# %%
opponents = [head[:2] for head in top_heads(eight_attribution, 3, smallest=True)]
swapped_diffs = logit_diffs(sample.swapped_subject, sample.answer_tokens)
# The value on eight prompts; for each prompt of the sample the value, and what it is a share of.
found: dict[str, tuple[float, Tensor, Tensor]] = {}
for head in writers + opponents:
    found[f"{name_of(head)} writes"] = eight_attribution[head].item(), attribution[head], diffs
for head in eight_top:
    effect = (patched - swapped_diffs)[candidates.index(head)]
    before = eight_patching[head].item()
    found[f"{name_of(head)} restores"] = before, effect, diffs - swapped_diffs

# %%
looks = dict(zip(writers, attention_to_names(cache, sample, writers)))
even_share = 1 / sample.tokens.shape[1]  # a head that looks nowhere in particular
for head, before in zip(writers, attention_to_names(eight_cache, eight, writers).mean(-1)):
    place = int(before.argmax())
    if before[place] > 2 * even_share:  # less is no finding
        finding = f"{name_of(head)} looks at {name_positions[place]}"
        found[finding] = before[place].item(), looks[head][place], torch.ones_like(diffs)

# %%
measured = {name: mean_interval(now, relative_to=unit) for name, (_, now, unit) in found.items()}
eight_values = torch.tensor([before for before, _, _ in found.values()])
series = {
    "eight prompts": (eight_values, eight_values, eight_values),
    f"sample of {len(sample)}, 95 % interval": stack_intervals(measured.values()),
}
title = "The eight-prompt findings, measured again"
x = "share of the logit difference (writes), of its restoration (restores), attention (looks)"
intervals(series, title=title, x=x, y="", labels=list(found), horizontal=True, height=640)


# %%
def verdict(name: str, rows: Tensor) -> str:
    """The criterion above, on some of the prompts."""
    before, now, unit = found[name]
    return findings.verdict(before, mean_interval(now[rows], relative_to=unit[rows]).plain())


table = pd.DataFrame({"eight prompts": {name: before for name, (before, _, _) in found.items()}})
table["sample"] = [str(measured[name]) for name in found]
groups = {"verdict": torch.ones_like(is_abba), "in ABBA": is_abba, "in BABA": ~is_abba}
for column, rows in groups.items():
    table[column] = [verdict(name, rows) for name in found]
show_table(table, decimals=2, signed=True)

# %%
say(findings.tally(table["verdict"].tolist()))
differs = table[["in ABBA", "in BABA"]].ne(table["verdict"], axis="index").any(axis="columns")
say(findings.one_sided(table.index[differs].tolist()))

# %% [markdown]
# In GPT-2 small's published account, the heads that write most attend to the *indirect object* and copy it. With hundreds
# of prompts, does this model's strongest writer?

# %%
rows = {name_of(head): [str(mean_interval(to)) for to in looks[head]] for head in writers}
columns = [f"attention from the end to {name}" for name in name_positions]
show_table(pd.DataFrame.from_dict(rows, orient="index", columns=columns))
attended = dict(zip(name_positions, looks[writers[0]].mean(-1).tolist()))
say(findings.strongest_writer(name_of(writers[0]), attended, even=even_share))

# %% [markdown]
# *What it does not show.* A share that survives on average may be large in one order and small in the other. And one
# head at a time is still one head at a time: that is what the rest of the notebook is about.

# %% [markdown]
# ## 5. A circuit by one criterion
#
# **Question.** Which heads, *at which positions*, do the task together?
#
# Following the paper, a part of the circuit is a head **at a position**: at the indirect object (IO), at the first
# mention of the subject (S1), right after it (S1+1), at the second mention (S2), or at the last token (end). Everything
# else is **mean-ablated**: its output is replaced by its average over the ABC prompts of the *same frame*, at the *same
# position*. The head then still says whatever it says about any such sentence, and nothing about these people (nor about
# this place and this object, which the average runs over too).
#
# <details><summary>★ Why the mean, why by frame, why at each position?</summary>
#
# Setting an output to zero takes away more than information: later layers are used to a head's average, and zero is as
# strange to them as any other wrong value. The mean over prompts that differ in the names, and in nothing that marks a
# place in the sentence, removes the names and keeps the sentence. If frames of different words were averaged together,
# position by position, the average would mix unrelated words, and the ablation would be as off-distribution as zero.
# The order ABBA or BABA does not split the average: with three different names there is no such order.
#
# MLPs and embeddings are left alone, as in the paper. So "the circuit" means its attention heads, and everything that
# MLPs do is given to it for free.
#
# </details>
#
# To find the parts we put a **gate** behind every head at every position, between its mean (0) and its own output (1),
# and let all gates open together, from the ablated model to the whole one. What each gate contributes on the way is its
# gradient, averaged over the way (*integrated gradients*). Two things recommend this criterion: the contributions
# **sum to the whole**, which we can check, and a head that works through later heads gets its share as well, since those
# are opening too.

# %%
names_of_places = ("IO", "S1", "S1+1", "S2", "end")


def places(prompts) -> dict[str, Int[Tensor, " prompt"]]:
    """Positions at which a head can be part of the circuit."""
    at = {**prompts.positions, "S1+1": prompts.positions["S1"] + 1}
    return {name: at[name] for name in names_of_places}


def gates(prompts, nodes=(), opened: float = 0.0) -> Float[Tensor, "layer prompt pos head"]:
    """Gates in one position, turned round at the nodes."""
    at_nodes = gates_at(model, nodes, places(prompts), prompts.tokens.shape[1])
    return (at_nodes - opened).abs()


# %%
frame_outputs = mean_outputs(model, everything.random_names, everything.frame)


def run_gated(
    prompts, *settings: Float[Tensor, "layer prompt pos head"]
) -> Float[Tensor, "setting prompt"]:
    """Logit difference of each prompt with all heads behind gates, by setting of the gates."""
    means = frame_outputs[:, prompts.frame]
    return gated_logit_diffs(model, prompts.tokens, prompts.answer_tokens, settings, means)


all_open, all_shut = run_gated(screening, gates(screening, opened=1.0), gates(screening))
torch.testing.assert_close(all_open, screening_diffs["as sampled"], atol=1e-3, rtol=1e-3)
print(f"all gates open, as the model: {mean_interval(all_open)}; shut: {mean_interval(all_shut)}")

# %%
contributions = gate_attribution(
    model, screening.tokens, screening.answer_tokens, frame_outputs[:, screening.frame], steps=6
)
total, open_minus_shut = contributions.sum((0, 2, 3)).mean(), (all_open - all_shut).mean()
print(f"all contributions sum to {total:.2f}; open minus shut is {open_minus_shut:.2f}")

# %%
rows = torch.arange(len(screening), device=contributions.device)
score = {
    where: contributions[:, rows, at].mean(1)  # [layer, head]
    for where, at in places(screening).items()
}
table = pd.DataFrame(
    {f"heads at {where}": values.flatten().tolist() for where, values in score.items()}
)
helping, opposing = table.clip(lower=0).sum(), table.clip(upper=0).sum()
table = pd.DataFrame({"contribution": table.sum(), "for it": helping, "against it": opposing})
show_table(table, decimals=2, signed=True)
print(f"at other positions: {total.item() - table['contribution'].sum():+.2f}")

# %% [markdown]
# **How much of the task do the strongest parts keep?** We open gates in order of their contribution and watch. Three
# orders:
#
# - by **size**, sign ignored: parts that work against the answer are opened as well. This is the honest one;
# - **helpful first**: only those that work for the answer, strongest first;
# - **random**, as a control for the number of gates alone.
#
# **What we would expect.** If a circuit is sparse, the first curve reaches the whole model's value with few parts and
# stays. If the task is spread over many heads, it creeps up like the random one. And *helpful first* can climb above
# the whole model: it leaves the opposition out.

# %%
nodes = {
    Node(layer, head, where): values[layer, head].item()
    for where, values in score.items()
    for layer in range(model.cfg.n_layers)
    for head in range(model.cfg.n_heads)
}
shuffled = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(0)).tolist()
orders = {
    "by size": sorted(nodes, key=lambda node: -abs(nodes[node])),
    "helpful first": sorted(nodes, key=lambda node: -nodes[node]),
    "random": [list(nodes)[index] for index in shuffled],
}

# %%
counts = [n for n in (0, 5, 10, 15, 20, 25, 30, 50, 100, 200) if n < len(nodes)] + [len(nodes)]


def curve_of(order: list[Node]) -> Interval:
    """Share of the screening prompts' logit difference that the first parts of an order keep."""
    kept = run_gated(screening, *[gates(screening, order[:count]) for count in counts[1:]])
    return mean_interval(torch.cat([all_shut[None], kept]), relative_to=all_open)


curves = {name: curve_of(order) for name, order in orders.items()}
axes = {
    "x": "parts kept (a head at a position), not to scale; everything else is mean-ablated",
    "y": "share of the logit difference kept",
}
title, labels = (
    "How much a circuit of each size keeps, on the screening prompts",
    list(map(str, counts)),
)
intervals(curves, title=title, **axes, labels=labels, connect=True, reference=1.0)

# %% [markdown]
# **The circuit** is the smallest number of parts on the first curve that keeps nine tenths of the logit difference on
# the screening prompts. That rule was fixed before looking; the number it picks is then judged on prompts that took no
# part in it.

# %%
enough = [n for n, share in zip(counts, curves["by size"].value.tolist()) if n and share >= 0.9]
circuit = orders["by size"][: min(enough, default=len(nodes))]
heads = {(node.layer, node.head) for node in circuit}
sizes = len(circuit), len(nodes), len(heads), model.cfg.n_layers * model.cfg.n_heads
say(findings.circuit_size(*sizes, reached=bool(enough)))
helpful = curves["helpful first"]
say(findings.helpful_alone(helpful.at(int(helpful.value.argmax())).plain()))

# %%
from helpers.ioi.record import published_circuit

published_heads = {head for heads in published_circuit().values() for head in heads}
print(f"published circuit of GPT-2 small: {len(published_heads)} of 144 heads")
print(
    f"all {len(nodes)} parts keep {curves['by size'].at(-1)}; the rest is done at other positions"
)

# %% [markdown]
# ## 6. Is it faithful?
#
# **Question.** On prompts that took no part in the choice: how much of the logit difference does the circuit keep, and
# does it keep it *for the right prompts*? As in the paper, faithfulness compares two averages over prompts: the logit
# difference of the circuit, everything else ablated, and that of the whole model. We give it as their ratio.
#
# **What we would expect.** A faithful circuit does what the model does, prompt by prompt: also where the model is weak,
# and in both orders. An average of the right size can hide a circuit that is too good on half of the prompts and too bad
# on the other. The controls: as many random parts, and the whole model with only the circuit shut.

# %%
settings = {
    "circuit": gates(sample, circuit),
    "random, same size": gates(sample, orders["random"][: len(circuit)]),
    "all but the circuit": gates(sample, circuit, opened=1.0),
    "nothing": gates(sample),
}
runs = {"whole model": diffs, **dict(zip(settings, run_gated(sample, *settings.values())))}

# %%
kept, faithfulness = runs["circuit"], mean_interval(runs["circuit"], relative_to=diffs)
table = pd.DataFrame({"logit difference": {name: str(mean_interval(runs[name])) for name in runs}})
table["share of the whole"] = [str(mean_interval(runs[name], relative_to=diffs)) for name in runs]
table["right name ahead (share)"] = [(runs[name] > 0).float().mean().item() for name in runs]
show_table(table, decimals=2)

# %%
title = "Prompt by prompt, does the circuit do what the model does? (dotted: the same)"
x, y = "logit difference of the whole model", "logit difference of the circuit"
scatter(diffs, kept, names=sample.prompts, title=title, x=x, y=y, diagonal=True, annotate=0)

# %%
by_order = {
    name: mean_interval(kept[of_order], relative_to=diffs[of_order])
    for name, of_order in {"ABBA": is_abba, "BABA": ~is_abba}.items()
}
show_table(pd.DataFrame({"the circuit keeps": by_order}).map(str))
agreement = torch.corrcoef(torch.stack([diffs, kept]))[0, 1]
print(f"correlation over prompts: {agreement:.2f}")
miss, average = kept - diffs, diffs.mean().abs()
by_prompt, on_average = (miss.abs().mean() / average).item(), (miss.mean().abs() / average).item()
say(findings.misses(by_prompt=by_prompt, on_average=on_average))

# %% [markdown]
# *What it does not show.* That this is the only circuit of this quality. Parts that stand in for each other can be left
# out without loss as long as one of them stays. Nor that the heads outside do nothing: only that this task, on these
# frames, can mostly do without what they say about the names.

# %% [markdown]
# ## 7. Is it minimal?
#
# **Question.** Does every *kind* of part earn its place?
#
# Classes come from two measurements, not from a list: **where a part acts**, and **where it looks** from there: the named
# position that gets most of its attention, if that is more than twice the share that every position up to there would
# get if it looked at all of them evenly. At the last token we ask what it does instead. If at least half of its
# contribution is its own direct attribution, it *writes* for or against the right name; else it works *through others*.
# Both are averages over the screening prompts, and a part whose interval holds the border is marked with a question mark.
# In the paper's terms for GPT-2 small:
#
# | class here | the paper's name |
# | --- | --- |
# | S1+1, looks at S1 | previous-token heads |
# | S2, looks at S1 | duplicate-token heads |
# | S2, looks at S1+1 | induction heads |
# | end, for it through others | S-inhibition heads |
# | end, writes for it | name movers (and their backups) |
# | end, writes against it | negative name movers |
#
# The table is a guide, not a finding: a class of the same description need not work the same way.
#
# **What we would expect.** Knock out one class from the circuit, leave the rest. If the class is needed, much is lost. If
# nothing changes, it has no business in the circuit, or another class stands in for it. If the difference *rises*, the
# class was opposition. The same knock-out in the whole model tells whether heads outside the circuit make up for it. A class
# is *needed* if it costs a tenth of the whole model's logit difference or more, by the whole interval; it *opposes* if its
# loss is a gain as large; between, it helps or opposes a little if the interval leaves out zero. If the interval holds zero,
# the class is *not needed* if the interval lies within that tenth on both sides, and else *uncertain*.

# %%
direct = head_attribution(model, screening.tokens, screening.answer_tokens).to(diffs)
wanted = {f"blocks.{node.layer}.attn.hook_pattern" for node in circuit}
_, patterns = model.run_with_cache(screening.tokens, names_filter=wanted.__contains__)


def looks_at(node: Node) -> tuple[str, Float[Tensor, " prompt"]]:
    """The named position that gets most of a part's attention, and how far that is beyond even."""
    at = places(screening)
    pattern = patterns["pattern", node.layer][rows, node.head, at[node.where]]  # [prompt, source]
    shares = {name: pattern[rows, at[name]] for name in names_of_places[:-1]}
    most = max(shares, key=lambda name: shares[name].mean().item())
    margin = shares[most] - 2 / (at[node.where] + 1)
    return (most if margin.mean() > 0 else "elsewhere"), margin


# %%
def class_of(node: Node) -> tuple[str, Interval]:
    """Where a part acts, where it looks or what it does there, and its margin from the border."""
    if node.where != "end":
        place, margin = looks_at(node)
        return f"{node.where}, looks at {place}", mean_interval(margin)
    side, which = (1, "for it") if nodes[node] > 0 else (-1, "against it")
    contribution = contributions[node.layer, rows, places(screening)["end"], node.head]
    margin = side * (direct[node.layer, node.head] - contribution / 2)
    name = f"end, writes {which}" if margin.mean() > 0 else f"end, {which} through others"
    return name, mean_interval(margin)


# %%
classes: dict[str, list[Node]] = {}
table = []
for node in sorted(circuit, key=lambda node: (names_of_places.index(node.where), node[:2])):
    name, (_, low, high) = class_of(node)
    classes.setdefault(name, []).append(node)
    table.append((name, node.name, nodes[node], "?" if low <= 0 <= high else ""))
columns = ["class", "part", "contribution", "near a border"]
table = pd.DataFrame(table, columns=columns).sort_values(["class", "contribution"])
show_table(table.set_index(["class", "part"]), decimals=2, signed=True)
print(f"near a border: {(table['near a border'] == '?').sum()} of {len(circuit)} parts")


# %%
def losses(intact: Tensor, without: list[Tensor]) -> Float[Tensor, "class prompt"]:
    """What each knock-out (a setting of the gates) takes from each prompt's logit difference."""
    whole_run, *knocked_out = run_gated(sample, intact, *without)
    return whole_run - torch.stack(knocked_out)


rest = [[node for node in circuit if node not in members] for members in classes.values()]
from_circuit = losses(gates(sample, circuit), [gates(sample, nodes) for nodes in rest])
knocked_out = [gates(sample, members, opened=1.0) for members in classes.values()]
from_model = losses(gates(sample, opened=1.0), knocked_out)

# %%
series = {
    "knocked out of the circuit": mean_interval(from_circuit, relative_to=diffs),
    "knocked out of the whole model": mean_interval(from_model, relative_to=diffs),
}
title = "What is lost without one class of parts"
x = "share of the whole model's logit difference lost (negative: it rises)"
labels = [f"{name} ({len(members)})" for name, members in classes.items()]
intervals(series, title=title, x=x, y="", labels=labels, horizontal=True)

# %%
lost_from_circuit, lost_from_model = (
    {name: mean_interval(lost, relative_to=diffs) for name, lost in zip(classes, by_class)}
    for by_class in (from_circuit, from_model)
)
circuit_losses = {name: lost.plain() for name, lost in lost_from_circuit.items()}
model_losses = {name: lost.plain() for name, lost in lost_from_model.items()}
roles = {name: findings.role(lost) for name, lost in circuit_losses.items()}
table = pd.DataFrame({"lost from circuit": lost_from_circuit, "lost from model": lost_from_model})
show_table(table.map(str).assign(**{"in the circuit": pd.Series(roles)}))

# %%
say(findings.made_up_for(circuit_losses, model_losses))
say(findings.minimal(roles))
say(findings.beside_the_paper(list(classes)))
say(findings.writers(circuit_losses, model_losses))
together = mean_interval(from_circuit.sum(0), relative_to=diffs)
say(findings.dependence(together=together.plain(), kept=faithfulness.plain()))

# %% [markdown]
# *What it does not show.* A class is knocked out as a whole; inside it, members may still be idle or stand in for each
# other. And classes are drawn by description: a part near a border, marked above, could be in the next class.

# %% [markdown]
# ## 8. What we found

# %%
summary = {
    "logit difference": whole,
    "right name ahead (share)": mean_interval((diffs > 0).float()),
    "ABBA minus BABA": order_gap,
    "kept by the circuit": faithfulness,
    **{f"of it, in {name}": share for name, share in by_order.items()},
}
show_table(pd.DataFrame({model.cfg.model_name: summary}).map(str))

# %% [markdown]
# ### What remains open
#
# - MLPs were given to the circuit for free.
# - Intervals cover the choice of prompts *within* these frames. Other frames are another population.
# - The criterion for the circuit is one of several. Another order of the parts gives another circuit, perhaps as good.
# - Faithfulness was measured by one metric. A circuit can keep a difference of two logits and get the rest of the
#   distribution wrong.

# %% [markdown]
# ## 9. When one machine is not enough
#
# Thousands of prompts, or a larger model, and a sweep takes hours. Its patches know nothing of each other, so several
# processes, GPUs or machines can share them out: `on=workers` hands the same sweep, cut into the same tasks, to workers
# that hold a model each. They run on Ray, which the extra `cluster` installs; on a laptop nothing needs it.
#
# **What we would expect.** The same numbers, to the last bit: who does a task must not matter. And for a sweep of seconds
# no gain, since workers have to start and to load the model first.

# %%
from helpers.cluster import Workers, missing_ray


def effects_of_heads(on=None) -> Float[Tensor, "layer head"]:
    """The logit difference of the eight corrupted prompts, with one head from the clean."""
    metric = LogitDiff(eight.answer_tokens)
    return patch_sweep(model, eight.corrupted_tokens, eight.tokens, "z", metric, on=on)


here = effects_of_heads()
print(f"in this process: {here.numel()} heads, patched one at a time")

# %% tags=["needs-ray"]
if missing_ray():
    say(missing_ray())
else:
    gpus = 0.5 if here.is_cuda else 0  # two workers on one GPU
    folder = model.loaded_from.folder
    with Workers(folder, count=2, gpus_each=gpus, address="local") as workers:
        there = effects_of_heads(on=workers)
    say(findings.the_same_on_workers(largest=(here - there).abs().max().item()))
    say(findings.time_of_workers(vars(workers.times)))

# %% [markdown]
# *What it does not solve.* Each worker holds the whole model, and each pass its whole batch: what does not fit here does not
# fit there. The repository's README has the lines for several GPUs, Slurm and Kubernetes, and what to use for models that
# one cannot host.
#
# ## 10. Exercises
#
# <details><summary>1. Ablate with averages over all frames together. What happens to faithfulness?</summary>
#
# Use `mean_outputs(model, everything.random_names, torch.zeros_like(everything.frame))` and index it with zeros. Positions
# then mix words of different frames, and what is lost is no longer only the names.
#
# </details>
#
# <details><summary>2. Find the circuit on ABBA prompts only and test it on BABA prompts.</summary>
#
# `everything.select([i for i, order in enumerate(everything.order) if order == "ABBA"])` gives the one half. If the two
# orders are solved in the same way, little is lost. If the orders differ in the figure of section 3, expect a surprise.
#
# </details>
#
# <details><summary>3. Is a class needed, or only its strongest member?</summary>
#
# Knock out one node at a time: `run_gated(sample, gates(sample, [n for n in circuit if n != node]))`. The paper's own test
# of minimality goes further: for each node it looks for a set of others without which the node matters.
#
# </details>
#
# <details><summary>4. Which prompts does the model get wrong, and does the circuit get the same ones wrong?</summary>
#
# `[p for p, d in zip(sample.prompts, diffs) if d < 0]`, and the same with `kept`. Look at their frames and orders first, and
# at the names next.
#
# </details>
