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
# # A task of your own: from an idea to a circuit, by editing one cell
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ioi-exploration-demos/ioi-exploration-demos/blob/main/demos/Your_Own_Task_Demo.ipynb)
#
# You have an idea of something a model can do, and two lists of prompts: some where one answer is right, and variants of
# them where another is. This notebook takes them from there to the heads that matter, where they look, who talks to
# whom, and how much of the task a handful of them carries. You edit one cell.
#
# **What you will do.** Describe a task as prompts, answers and places; check that the model can do it and that the metric
# tells the two versions apart; then attribute, patch, trace and prune.
#
# **What you will learn.** Which of the tools of the other demos need nothing but prompts and a metric (all of them), and
# which heads a model uses for several tasks at once.
#
# **The worked example** is *greater-than* (Hanna et al. [2023](https://arxiv.org/abs/2305.00586)): after "The war lasted
# from the year 1743 to the year 17", a year that comes *later* than the first is likely. At the end three more
# tasks stand beside it.
#
# **How to read it.** No head and no measurement is named in the text: the cells print what they found, on whatever
# model and task are loaded.

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

from helpers.findings import exploratory
from helpers.findings import own_task as findings
from helpers.head_scores import Head, attention_between, top_heads
from helpers.logit_diff import normalise, residual_stack_to_logit_diff
from helpers.models import load_model
from helpers.plotting import head_map, line, position_map
from helpers.tables import head_table, show_table
from helpers.task import Task
from helpers.wording import enumerated, say

_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## 2. The task: the one cell that you edit
#
# A task is a list of prompts, for each a *corrupted* variant in which the answer does not hold, the right answers and the
# wrong ones, and names for the places that might matter. From plain lists it is made like this:
#
# ```python
# task = Task.from_prompts(
#     model,
#     clean=["The capital of France is the city of", "The capital of Italy is the city of"],
#     corrupted=["The capital of Italy is the city of", "The capital of France is the city of"],
#     right=[" Paris", " Rome"],
#     wrong=[" Rome", " Paris"],
#     roles={"country": ["France", "Italy"]},
# )
# ```
#
# `Task.from_table` takes a pandas table or a CSV file with these columns. What does not fit (an answer of several tokens,
# a place that is not in a prompt, prompts of two lengths where positions are compared) is refused, with the prompt named.

# %% [markdown] tags=["worked-example"]
# Greater-than has *groups* of answers: every year that is later is right. How a group becomes one number has to be said.
# We sum its probability, as the paper does. What stands for a year depends on the tokenizer: GPT-2 has a token for two
# digits, other models one for each digit; the generator looks, and compares what the next token can tell.

# %% tags=["task"]
from helpers.tasks.greater_than import sample_greater_than

model = load_model()
everything = sample_greater_than(model, 206, seed=0)
task, held_out = everything.select(range(6)), everything.select(range(6, 206))

# %% [markdown]
# Nothing below names this task. A few prompts are for looking, the others for measuring what we claim.

# %%
tokens, corrupted_tokens, metric = task.tokens, task.corrupted_tokens, task.metric()
n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
say(f"{model.cfg.model_name}: {task}")
show_table(task.table.head(3).T)

# %% [markdown]
# ## 3. Can the model do it, and does the metric see it?
#
# **Question.** Is there anything to explain? If the model prefers the right answers no more often than the wrong ones, or
# the metric is as high on the corrupted prompts, what follows would explain nothing; `check` warns then.

# %%
check = held_out.check(model)
show_table(check.table)
accuracy, effect = check.accuracy.plain(), check.effect.plain()
say(findings.can_do(accuracy=accuracy, effect=effect, prompts=len(held_out)))

# %% [markdown]
# Everything that is patched is put on one scale: zero is the corrupted run, one is the clean run.

# %%
logits, cache = model.run_with_cache(tokens)
corrupted_logits, corrupted_cache = model.run_with_cache(corrupted_tokens)
clean, corrupted = metric(logits[:, -1]), metric(corrupted_logits[:, -1])


def restored(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The part of the difference between corrupted and clean that a patch brings back."""
    return normalise(value, clean=clean, corrupted=corrupted)


print(f"metric on the {len(task)} prompts: clean {clean:+.2f}, corrupted {corrupted:+.2f}")

# %% [markdown]
# ## 4. Who writes the answer?
#
# Direct attribution splits a *linear* metric into what each part adds. A summed probability is not linear, so for groups
# of answers we attribute the difference of their average logits instead. A pair of answers stays what it is.
#
# **What would surprise us.** A difference that rises evenly over all layers has no writers to find.

# %%
linear = task.combined_by("mean logit")
directions = linear.directions(model)
stack, labels = cache.accumulated_resid(layer=-1, incl_mid=True, pos_slice=-1, return_labels=True)
lens = residual_stack_to_logit_diff(stack, cache, directions)
title = "Logit lens: the difference one would read off the residual stream at the last token"
x = "residual stream before (pre) or inside (mid) a layer"
line(lens, title=title, x=x, y="logit difference", x_labels=labels, annotate=3)
rises = lens.diff()
where = labels[int(rises.argmax()) + 1]
say(findings.lens(largest=rises.max().item(), whole=(lens[-1] - lens[0]).item(), at=where))

# %%
head_outputs = cache.stack_head_results(layer=-1, pos_slice=-1).unflatten(0, (n_layers, n_heads))
by_head = residual_stack_to_logit_diff(head_outputs, cache, directions)
title = "What each attention head adds to the logit difference"
head_map(by_head, title=title, value_name="logit difference added")
writers = top_heads(by_head, 4, by_size=True)

# %% [markdown]
# ## 5. Where do the writers look?
#
# From the last token, at the places that the task has names for.

# %%
end = task.positions["end"]
looks = {
    f"looks at {role}": attention_between(cache, end, at) for role, at in task.positions.items()
}
show_table(head_table(writers, {"adds": by_head} | looks))

# %% [markdown]
# ## 6. What matters, and where?
#
# Activation patching: run the corrupted prompts, put one activation of the clean run in its place, and see how much of the
# answer comes back. First the residual stream at each place, then the output of each head.

# %%
from helpers.patching import patch_sweep

resid = restored(patch_sweep(model, corrupted_tokens, tokens, "resid_pre", metric))
title = "Where the answer stands: patching the residual stream, clean into corrupted"
position_map(resid, task.position_labels, title=title, y="before layer", value_name="restored")

# %% tags=["thumbnail"]
head_patching = restored(patch_sweep(model, corrupted_tokens, tokens, "z", metric))
title = "Patching the output of one head at all positions, clean into corrupted"
head_map(head_patching, title=title, value_name="restored", annotate=8)
important = top_heads(head_patching, 10, by_size=True)

# %% [markdown]
# A head can matter for *where it looks* (its pattern) or for *what it reads there* (its values). We take one from the
# clean run and the other from the corrupted one.

# %%
from fancy_einsum import einsum

from helpers.patching import patch_head_outputs


def mixed(head: Head, pattern_run, value_run) -> Float[Tensor, "batch pos d_head"]:
    """Output of a head that looks as in one run and reads as in another."""
    values = value_run["v", head.layer]  # heads of a group share theirs
    values = values[:, :, head.head * values.shape[2] // n_heads]
    pattern = pattern_run["pattern", head.layer][:, head.head]
    return einsum("batch to from, batch from d_head -> batch to d_head", pattern, values)


# %%
runs = {"values": (corrupted_cache, cache), "pattern": (cache, corrupted_cache)}
columns = {"whole": head_patching, "writes": by_head}
table = head_table(important, columns)
for part, (pattern_run, value_run) in runs.items():
    outputs = [mixed(head, pattern_run, value_run) for head in important]
    places = [head[:2] for head in important]
    values = patch_head_outputs(model, corrupted_tokens, places, outputs, metric)
    table[part] = restored(values).tolist()
table["matters for"] = table.apply(exploratory.matters_for, axis="columns")
show_table(table, signed=True)

# %% [markdown]
# ## 7. Who talks to whom?
#
# Path patching asks of one head what each earlier head tells it, and nothing else changes. What to ask about follows
# from the table above: a head that matters for what it reads may hear others through its *value*, one that matters for
# where it looks through its *query* or *key*. We ask for the two heads that restore most.
#
# **What would falsify it.** If other heads made this head do what it does, the paths into it would add up to what it
# restores. If they do not, what matters comes from the embeddings, or through MLPs.

# %%
from helpers.path_patching import path_patch_sweep, strongest_paths
from helpers.tables import path_table


def paths_into(receiver: Head, inputs: list[str]) -> list:
    """Every direct path from an earlier head into inputs of a head, strongest first."""
    effects = {}
    for through in inputs:
        runs = corrupted_tokens, tokens, receiver[:2], through[0]
        effects[through] = restored(path_patch_sweep(model, *runs, metric))
    return strongest_paths(effects, receiver, len(inputs) * n_layers * n_heads)


# %%
asked = {"what it reads": ["value"], "where it looks": ["query", "key"]}
paths_to = {}
for head in [head for head in important if head.layer > 0][:2]:
    inputs = asked.get(table["matters for"][head.name], ["query", "key", "value"])
    paths_to[head] = paths_into(head, inputs)
shown = [path for paths in paths_to.values() for path in paths[:4]]
show_table(path_table(shown), signed=True)
for head, paths in paths_to.items():
    effects = [path.sender.value for path in paths]
    say(exploratory.spoken_to(receiver=head.name, paths=effects, whole=head.value))

# %% [markdown]
# ## 8. What else do these heads do?
#
# The [head atlas](Head_Atlas_Demo.ipynb) has measured every head of this model on text, on random tokens and on IOI. So we
# can ask whether the heads of this task are of a known kind, and whether they matter for IOI as well.

# %%
from helpers.atlas.build import load_or_build
from helpers.atlas.questions import is_known

atlas, _ = load_or_build(model, "atlas")
table = head_table(
    important, {"restores": head_patching, "restores in IOI": atlas.score("ioi_patching")}
)
table["known kinds"] = [enumerated(is_known(atlas, *head[:2]), "none") for head in important]
show_table(table, signed=True)

# %% [markdown]
# ## 9. The circuit, drawn
#
# Each head at the position where patching it does most; arrows are direct effects that were measured above.

# %%
at_layers, at_heads = (sorted({head[i] for head in important}) for i in (0, 1))
where = {"layers": at_layers, "heads": at_heads, "by_position": True}
acting = restored(patch_sweep(model, corrupted_tokens, tokens, "z", metric, **where))
nodes = {"logits": (tokens.shape[1] - 1, n_layers + 1)}
for head in important:
    effects = acting[at_layers.index(head.layer), at_heads.index(head.head)]
    nodes[head.name] = int(effects.abs().argmax()), head.layer

# %%
from helpers.plotting import circuit_graph

edges = [
    (sender.name, receiver.name, f"{through} {sender.value:+.2f}", sender.value)
    for sender, through, receiver in shown
    if {sender.name, receiver.name} <= {*nodes} and abs(sender.value) >= 0.01
]
whole = linear.metric()(logits[:, -1])
for head in important:
    share = (by_head[head[:2]] / whole).item()
    if abs(share) >= 0.05:
        edges.append((head.name, "logits", f"{share:+.2f}", share))
rows = {layer: f"L{layer}" for layer in range(n_layers)} | {n_layers + 1: "output"}
axes = {"x": "position", "y": "layer", "x_labels": task.position_labels, "y_labels": rows}
circuit_graph(nodes, edges, title="The circuit as measured: heads, and direct effects", **axes)

# %% [markdown]
# ## 10. Are ten heads enough?
#
# The heads were chosen on a few prompts. On the others, let only these heads say what they say, and replace every other
# head's output by its average over corrupted prompts (mean ablation; MLPs run on). One is the whole model, zero is what is
# left without any head.
#
# **What would falsify it.** As many of the other heads, drawn at random, should restore nothing.

# %%
from helpers.circuit import gated_logit_diffs, mean_outputs
from helpers.intervals import mean_interval


def with_only(groups: list[list[Head]], on: Task) -> Float[Tensor, "group prompt"]:
    """The metric with only some heads at work, all others at their average on corrupted prompts."""
    one_group = torch.zeros(len(on), dtype=torch.long, device=on.tokens.device)
    means = mean_outputs(model, on.corrupted_tokens, one_group)
    settings = torch.zeros(
        len(groups), n_layers, *on.tokens.shape, n_heads, device=on.tokens.device
    )
    for gates, heads in zip(settings, groups):
        for layer, head, *_ in heads:
            gates[layer, :, :, head] = 1
    means = means.expand(-1, len(on), -1, -1, -1)
    return gated_logit_diffs(model, on.tokens, on.metric(), list(settings), means)


# %%
others = top_heads(head_patching, head_patching.numel(), by_size=True)[10:]
generator = torch.Generator().manual_seed(0)
at_random = [others[i] for i in torch.randperm(len(others), generator=generator)[:10]]
of_ten, by_luck, of_none = with_only([important, at_random, []], held_out)
groups = {"all heads": check.clean, "ten": of_ten, "ten at random": by_luck, "none": of_none}
heads_work = check.clean - of_none
shares = {
    name: mean_interval(value - of_none, relative_to=heads_work) for name, value in groups.items()
}
table = {name: (str(mean_interval(groups[name])), str(share)) for name, share in shares.items()}
columns = ["metric", "of the heads' work"]
show_table(pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("at work"))
chosen, by_chance = shares["ten"].plain(), shares["ten at random"].plain()
say(findings.enough(chosen=chosen, at_random=by_chance, count=len(important)))

# %% [markdown] tags=["worked-example"]
# ## 11. Four tasks side by side
#
# Three more tasks beside this one: *docstring* (which argument is described next? Heimersheim and Janiak, 2023),
# *capitals*, and *IOI*. Which heads do they share?
#
# For four tasks we score all heads at once. Put a gate behind each head: open, it says what it says; shut, its average
# over corrupted prompts. *Gate attribution* opens all gates together, little by little, and adds up what each one
# contributes on the way, by its gradient. It is cheaper than patching and its parts sum to what all heads do together,
# but it is an estimate: the table at the end shuts the gates in earnest.

# %% tags=["worked-example"]
from helpers.ioi.dataset import sample_ioi
from helpers.tasks.capitals import sample_capitals
from helpers.tasks.docstrings import sample_docstrings

people = sample_ioi(model, 40, seed=0)
tasks = {
    "greater-than": everything.select(range(40)),
    "docstring": sample_docstrings(model, 40, seed=0),
    "capitals": sample_capitals(model, 40, seed=0),
    "IOI": people.task(model, people.swapped_subject),
}

# %% tags=["worked-example"]
from helpers.circuit import gate_attribution


def contributions(task: Task) -> Float[Tensor, "layer head"]:
    """What each head adds while all open together, as a share of all that heads add or take."""
    one_group = torch.zeros(len(task), dtype=torch.long, device=task.tokens.device)
    means = mean_outputs(model, task.corrupted_tokens, one_group).expand(-1, len(task), -1, -1, -1)
    gates = gate_attribution(model, task.tokens, task.metric(), means, steps=4)
    by_head = gates.sum(2).mean(1)  # over positions, and prompts
    return by_head / by_head.abs().sum()


by_task = {name: contributions(some.select(range(8))) for name, some in tasks.items()}

# %% tags=["worked-example"]
from helpers.plotting import imshow

top = {name: top_heads(values, 5, by_size=True) for name, values in by_task.items()}
rows = sorted({head[:2] for heads in top.values() for head in heads})
imshow(
    torch.stack([torch.stack([values[head] for values in by_task.values()]) for head in rows]),
    title="The five heads that contribute most to each task, in all of them",
    x="task",
    y="head",
    x_labels=list(tasks),
    y_labels=[Head(*head, 0).name for head in rows],
    value_name="share",
    annotate=40,
)
say(findings.shared({name: [head.name for head in heads] for name, heads in top.items()}))

# %% [markdown] tags=["worked-example"]
# And how much of each task do its own ten heads restore? Chosen on eight prompts of each, measured on others.

# %% tags=["worked-example"]
rows = {}
for name, some in tasks.items():
    ten = top_heads(by_task[name], 10, by_size=True)
    on = some.select(range(8, len(some)))
    of_ten, of_none = with_only([ten, []], on)
    of_all = on.metric(per_prompt=True)(model(on.tokens)[:, -1])
    share = mean_interval(of_ten - of_none, relative_to=of_all - of_none)
    rows[name] = str(mean_interval(of_all)), str(share)
columns = ["metric of the model", "of the heads' work, ten restore"]
show_table(pd.DataFrame.from_dict(rows, orient="index", columns=columns))

# %% [markdown] tags=["worked-example"]
# **What is known of other models.** For greater-than in GPT-2 small, Hanna et al.
# ([2023](https://arxiv.org/abs/2305.00586)) found that heads of the middle layers carry the first year to the end, and that
# *MLPs* of the last layers turn it into later years. For facts such as capitals, Meng et al.
# ([2022](https://arxiv.org/abs/2202.05262)) point to early MLPs at the subject, and later attention that reads them. Where
# ten heads restore little although the residual stream's map is clear, MLPs are the first suspects.
#
# *What it does not show.* Heads were chosen one at a time, by size. Heads that stand in for each other look small that way,
# and mean ablation of all others is a harsh test. The [demo on hundreds of prompts](IOI_At_Scale_Demo.ipynb) takes more
# care with both.

# %% [markdown] tags=["worked-example"]
# ## 12. Your turn
#
# Make a demo of your own: `make new-demo NAME=My_Task` writes `demos/My_Task_Demo.py` from this one, with the cell to edit
# first. Or copy the cells that you need.
#
# <details><summary>1. Subject and verb: does "The keys to the cabinet" go on with <em>are</em>?</summary>
#
# Clean "The keys to the cabinet", corrupted "The key to the cabinet", right " are", wrong " is", and the role
# `{"subject": ["keys", …]}`. Take nouns whose two forms have equally many tokens, and both numbers as the clean one.
#
# </details>
#
# <details><summary>2. What changes if a group's logits are averaged instead of its probability summed?</summary>
#
# `task.combined_by("mean logit")` measures that. The average gives an answer that nobody would say as much weight as the
# likeliest one, so heads that order the unlikely years among themselves suddenly matter.
#
# </details>
#
# <details><summary>3. Corrupt something else. Do the same heads come out?</summary>
#
# Patching finds only what differs between the two runs. Corrupt the noun instead of the year, and the heads that carry the
# year drop out of the map, though the model needs them as much as before.
#
# </details>
