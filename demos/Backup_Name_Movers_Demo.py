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
# # Where did the missing effect go? Account for an ablation, down to the last part
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ioi-exploration-demos/ioi-exploration-demos/blob/main/demos/Backup_Name_Movers_Demo.ipynb)
#
# Switch off the head that writes most of the answer. In GPT-2 small the answer hardly suffers: other heads change what
# they do, and a head that used to push *against* the answer pushes less. Why? The question is usually left to the
# reader. Here we answer it for whatever model is loaded, with experiments that could have come out otherwise.
#
# **What you will do.** Predict what an ablation should cost, measure what it costs, and account for the difference part
# by part until nothing is left over. Then ask of every part that reacted what it reacted *to*.
#
# **What you will learn.** How to take a change in a metric apart so that the pieces add up; path patching from an
# ablated head; how to tell a head that suppresses *what is predicted* from one that pushes in a fixed direction; and why
# "self-repair" should be stated with an interval and with the kind of ablation.
#
# **What you need.** The [Exploratory Analysis demo](Exploratory_Analysis_Demo.ipynb), or an idea of the logit
# difference, direct logit attribution and hooks. On two cores the notebook takes a few minutes.
#
# **How to read it.** No head and no measurement is named in the text: heads are found, and what is said about this run
# is printed by the cell that measured it. GPT-2 small's published figures stand beside it where there are any.

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
from transformer_lens.utilities import get_act_name

from helpers.findings import backup as findings
from helpers.head_scores import Head, attention_between, top_heads
from helpers.intervals import mean_interval
from helpers.ioi.prompts import reference_prompts
from helpers.ioi.record import beside_published, published_heatmap, published_value
from helpers.logit_diff import logit_diff, logit_diff_directions, residual_stack_to_logit_diff
from helpers.models import load_model
from helpers.plotting import head_map, imshow, intervals, line, waterfall
from helpers.tables import head_table, show_table
from helpers.wording import listing, say

_ = torch.set_grad_enabled(False)

# %%
model = load_model()
n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
prompts = reference_prompts(model)
answer_tokens, end = prompts.answer_tokens, prompts.positions["end"]
logits, cache = model.run_with_cache(prompts.tokens)
clean_diffs = logit_diff(logits, answer_tokens, per_prompt=True)
clean = clean_diffs.mean().item()
print(f"{model.cfg.model_name}, {len(prompts)} prompts: logit difference {clean:.3f}")

# %% [markdown]
# ## 2. What should it cost, and what does it cost?
#
# **Whom to ablate.** First the head with the largest direct attribution: the obvious choice. It need not be a *name
# mover*, a head that looks at the indirect object (IO) and raises it. So we also look for the largest head that is one.
# In GPT-2 small the two are the same head; if they differ here, we ablate each in turn. A head *looks at* a name, here and
# below, if the name gets more than twice the attention that each position would get if all got the same.

# %%
directions = logit_diff_directions(model, answer_tokens)  # [prompt, d_model]
head_outputs = cache.stack_head_results(layer=-1, pos_slice=-1)  # [layer * head, prompt, d_model]
head_outputs = head_outputs.unflatten(0, (n_layers, n_heads))
by_prompt = residual_stack_to_logit_diff(head_outputs, cache, directions, per_prompt=True)
by_head = by_prompt.mean(-1)
writers = [head for head in top_heads(by_head, 10) if head.value > 0]
print(f"Largest direct attribution: {listing(writers[:3])}")

# %%
right = model.tokens_to_residual_directions(answer_tokens[:, 0])
raises_right = residual_stack_to_logit_diff(head_outputs, cache, right)
names_at = {name: prompts.positions[name] for name in ("IO", "S1", "S2")}
looks_at = {name: attention_between(cache, end, at) for name, at in names_at.items()}
even_share = 1 / prompts.tokens.shape[1]
at_subject = (looks_at["S1"] + looks_at["S2"]).clamp(min=2 * even_share)
is_name_mover = (looks_at["IO"] > at_subject) & (raises_right > 0)

# %%
name_movers = [head for head in writers if is_name_mover[head[:2]]]
ablated_heads = list(dict.fromkeys([writers[0], *name_movers[:1]]))
columns = {"direct attribution": by_head, "to the right name": raises_right} | looks_at
show_table(head_table(ablated_heads, columns))
name_mover = name_movers[0].name if name_movers else None
say(findings.whom_to_ablate(largest=writers[0].name, name_mover=name_mover))

# %% [markdown]
# **The prediction.** Replace the head's output at the last position by zero. If every other part went on as before, the
# logit difference would fall by exactly the head's direct attribution. If it falls less, something made up for the loss
# (*self-repair*); if it falls more, something made it worse. In the rule that puts it into words, a difference counts if
# it is a tenth of the predicted loss or more, and if its interval over prompts leaves out zero.


# %%
def replace_at_end(head: Head, output: Float[Tensor, "prompt d_head"]) -> tuple:
    """A hook: the head's output at the last position is the given one."""

    def replace(z: Float[Tensor, "prompt pos head d_head"], hook) -> Tensor:
        z[:, -1, head.head] = output
        return z

    return get_act_name("z", head.layer), replace


# %%
zero = torch.zeros(len(prompts), model.cfg.d_head, device=prompts.tokens.device)
ablated_runs, measured_diffs = {}, {}
for head in ablated_heads:
    with model.hooks(fwd_hooks=[replace_at_end(head, zero)]):
        ablated_logits, ablated_runs[head] = model.run_with_cache(prompts.tokens)
    measured_diffs[head] = logit_diff(ablated_logits, answer_tokens, per_prompt=True)
measured = {head: diffs.mean().item() for head, diffs in measured_diffs.items()}

# %%
top = ablated_heads[0]
ratio = (cache["ln_final.hook_scale"] / ablated_runs[top]["ln_final.hook_scale"])[:, -1]
published_direct = published_value("top_name_mover_direct_attribution")
published_change = published_value("ablation_logit_diff") - published_value("logit_diff_average")
published_share = 1 + published_change / published_direct
rows = {
    "head of largest direct attribution": (top.name, published_value("top_name_mover")),
    "its direct attribution": (top.value, published_direct),
    "logit difference": (clean, published_value("logit_diff_average")),
    "predicted without it": (clean - top.value, published_value("ablation_naive_prediction")),
    "measured without it": (measured[top], published_value("ablation_logit_diff")),
    "share of the loss made up for": (1 - (clean - measured[top]) / top.value, published_share),
    "final scale, before / after": (ratio.mean().item(), published_value("ln_scale_ratio_average")),
}
show_table(beside_published(rows, model.cfg.model_name))


# %%
def repair(loss: Float[Tensor, " prompt"], made_up: Float[Tensor, " prompt"]) -> str:
    """Whether a loss is made up for, by the rule above."""
    return findings.repair(loss=mean_interval(loss).plain(), made_up=mean_interval(made_up).plain())


rows = []
for head in ablated_heads:
    made_up = measured_diffs[head] - (clean_diffs - by_prompt[head[:2]])
    in_words = repair(by_prompt[head[:2]], made_up)
    rows.append((clean - head.value, measured[head], str(mean_interval(made_up)), in_words))
columns = ["predicted", "measured", "made up for", "so the loss is, on these prompts,"]
show_table(pd.DataFrame(rows, [f"without {head.name}" for head in ablated_heads], columns))

# %% [markdown]
# *What it does not show.* A total near the prediction can be the sum of large changes that cancel. Only an account of
# the parts can tell "nothing reacted" from "much reacted, in both directions".

# %% [markdown]
# ## 3. The full account
#
# **Question.** The measured change is a sum. Of what?
#
# At the last position the residual stream is a sum of what every part wrote there, and the logit difference is its
# projection divided by the final layer norm's scale. Between the clean and the ablated run, therefore, the change splits
# exactly:
#
# $$\Delta = \underbrace{-\,\text{direct effect}}_{\text{the head itself}} + \sum_{\text{later heads}} \Delta_{\text{head}} +
# \sum_{\text{later MLPs}} \Delta_{\text{MLP}} + \underbrace{\left(\tfrac{1}{s'} - \tfrac{1}{s}\right)\, r' \cdot
# u}_{\text{final scale}}$$
#
# where every $\Delta$ is read with the clean run's scale $s$, and the last term is what changing the scale to $s'$ does to
# the ablated run's stream $r'$ along the logit difference direction $u$. Parts below the ablated head, and the other
# heads in its layer, cannot change: they have run already, or run beside it.
#
# **What we would expect.** Without self-repair, all bars but the first are small. With backup heads, positive heads
# rise. With "negative heads matter less", negative heads rise towards zero. With repair by scale, that bar is large.
#
# <details><summary>★ Is that the same as freezing each part?</summary>
#
# Yes, if they are frozen from the top down. Freeze the scale; then, with everything above already held at its clean
# output, freeze the last MLP, the last layer's heads, and so on downwards. Each step takes away precisely what that
# part's own change wrote to the stream, which is its bar. With all later parts frozen nothing
# but the lost direct effect remains. Freezing *one* part while all others stay free is another experiment,
# because later parts hear of it. We do that next.
#
# </details>


# %%
def parts_at_end(run) -> Float[Tensor, "part prompt d_model"]:
    """What every head and every MLP writes at the last position."""
    mlps = torch.stack([run["mlp_out", layer][:, -1] for layer in range(n_layers)])
    return torch.cat([run.stack_head_results(layer=-1, pos_slice=-1), mlps])


ablated = ablated_runs[top]
final_stream = ablated["resid_post", -1][None, :, -1]
written = parts_at_end(ablated) - parts_at_end(cache)
by_part = residual_stack_to_logit_diff(written, cache, directions)  # [part]: heads, then MLPs
by_scale = residual_stack_to_logit_diff(final_stream, ablated, directions)
by_scale -= residual_stack_to_logit_diff(final_stream, cache, directions)
total, change = by_part.sum().item() + by_scale.item(), measured[top] - clean
torch.testing.assert_close(total, change, atol=1e-3, rtol=0)
print(f"{top.name}: the parts add up to {total:+.4f}, the change is {change:+.4f}")

# %% [markdown]
# `account_for` does the same, prompt by prompt, for several ablations and any number of prompts. Nothing changes before
# the last position; so it runs the last token only, with the keys and values that the clean run had before it.

# %%
from helpers.accounts import account_for

zeroed = {head: (head, zero) for head in ablated_heads}
accounts = account_for(model, prompts.tokens, answer_tokens, zeroed)

# %% tags=["thumbnail"]
for head, account in accounts.items():
    change = account.heads.mean(-1)
    shown = [part for part in top_heads(change, 5, by_size=True) if abs(part.value) >= 0.01]
    parts = {f"{head.name} itself": account.direct.mean().item()}
    parts |= {part.name: part.value for part in shown}
    parts["other heads"] = (change.sum() - sum(part.value for part in shown)).item()
    parts["MLPs"] = account.mlps.mean(-1).sum().item()
    parts["final scale"] = account.scale.mean().item()
    start = ("clean", account.before.mean().item())
    title = f"Where the logit difference goes when {head.name} is zero-ablated at the last position"
    waterfall(parts, start=start, end="ablated", title=title, y="logit difference")

# %%
table = pd.DataFrame()
for head, account in accounts.items():
    change = account.heads.mean(-1)
    rise, fall = change.clamp(min=0).sum().item(), change.clamp(max=0).sum().item()
    others = {
        "MLPs": account.mlps.mean(-1).sum().item(),
        "final scale": account.scale.mean().item(),
    }
    parts = {"the head itself": -head.value, "heads that rise": rise, "heads that fall": fall}
    table[f"without {head.name}"] = pd.Series(parts | others)
show_table(table, signed=True)
for without, parts in table.items():
    say(f"{without}: {findings.reactions(parts)}")

# %%
before = published_heatmap("head_attribution")
change = published_heatmap("head_attribution_after_ablation") - before
change[top_heads(before, 1)[0][:2]] = 0
largest = listing(top_heads(change, 6, by_size=True))
print(
    f"GPT-2 small (published) loses {published_direct:.3f}; total change {published_change:+.3f};"
)
say(f"heads, each run with its own scale, {change.sum():+.3f}, of them {largest}.")

# %% [markdown]
# Which heads are those, and were they for or against the answer before? We follow up those of largest change, four at
# most, if they change by a hundredth of the logit difference or more, and if the interval of the change over prompts
# leaves out zero. Eight prompts choose them; section 6 measures them on others.

# %%
head_map(
    {f"without {head.name}": account.heads.mean(-1) for head, account in accounts.items()},
    title="Change of each head's direct effect on the logit difference",
    value_name="change in logit difference added",
    annotate=4,
)

# %%
reactions = []  # (ablated head, head that reacts)
for head, account in accounts.items():
    for part in top_heads(account.heads.mean(-1), 4, by_size=True):
        _, low, high = mean_interval(account.heads[part[:2]])
        if abs(part.value) >= abs(clean) / 100 and not low <= 0 <= high:
            reactions.append((head, part))
labels = [f"{part.name} without {head.name}" for head, part in reactions]

# %%
was = [by_head[part[:2]].item() for _, part in reactions]
table = pd.DataFrame({"direct effect before": was}, labels)
table["after"] = [before + part.value for before, (_, part) in zip(was, reactions)]
table["change"] = [part.value for _, part in reactions]
table["so it is"] = [findings.change_of_side(*of) for of in zip(was, table["after"])]
show_table(table, signed=True)

# %% [markdown]
# ### Holding parts still
#
# The account says what each part wrote differently. It does not say what would happen if a part could *not* react, since
# later parts hear of it too. So: ablate, hold one part (or all of a kind) at its clean output at the last position, and
# see by how much the logit difference is lower or higher than when everything may react. From here on `LastToken` runs
# the last token only, with the keys and values that the clean run had before it.

# %%
from helpers.last_token import LastToken

last_token = LastToken(model, prompts.tokens)


def hold_at_end(site: str, layer: int, head: int | slice = slice(None)) -> tuple:
    """A hook that keeps an MLP ("mlp_out") or heads ("z") at the clean output at the end."""

    def hold(activation: Float[Tensor, "prompt pos ..."], hook) -> Tensor:
        activation[:, -1, head] = cache[site, layer][:, -1, head]
        return activation

    return get_act_name(site, layer), hold


# %%
def worth_of(reaction: list, head: Head) -> float:
    """How much the logit difference falls without a head if a reaction is held still as well."""
    held = last_token.logits([replace_at_end(head, zero), *reaction])
    return measured[head] - logit_diff(held, answer_tokens).item()


worth = [worth_of([hold_at_end("z", *part[:2])], head) for head, part in reactions]
rows = {label: (part.value, falls) for label, (_, part), falls in zip(labels, reactions, worth)}

# %%
for head, account in accounts.items():
    z = [hold_at_end("z", layer) for layer in range(head.layer + 1, n_layers)]
    mlps = [hold_at_end("mlp_out", layer) for layer in range(head.layer, n_layers)]
    all_heads, all_mlps = account.heads.mean(-1).sum().item(), account.mlps.mean(-1).sum().item()
    rows[f"all later heads without {head.name}"] = all_heads, worth_of(z, head)
    rows[f"all later MLPs without {head.name}"] = all_mlps, worth_of(mlps, head)
columns = ["own share", "logit difference falls if held still"]
show_table(pd.DataFrame.from_dict(rows, orient="index", columns=columns), signed=True)

# %% [markdown]
# Where the two columns agree, a part works straight on the output. Where they differ, later parts answer to its answer.
#
# *What it does not show.* Eight prompts of one kind, one kind of ablation; both are widened below.

# %% [markdown]
# ## 4. What do the reacting heads react to?
#
# **Question.** Nobody told these heads about the ablation. Through what did they hear of it?
#
# The ablation touches the last position only. So everything a later head reads at *earlier* positions is as it was, and
# just two things can change its output at the end:
#
# - its **attention**: the query at the last position differs, so it looks elsewhere (or the key there does, if it looks
#   at the last position itself);
# - its **value** at the last position, which matters only as far as it attends to *itself*.
#
# Both are measured by mixing: attention of one run, values of the other. And for the route: take what the ablated head
# wrote *out of one input only* of the reacting head (its query, key or value input) and leave everything else clean.
# That is **direct path patching** from the ablated head; `helpers.path_patching` does it between two runs for all senders
# of a receiver, while here the sender is known and its change is a removal, so we write it out. What is left over came
# **by way of others**: through heads and MLPs in between.
#
# **What we would expect.** A head that searches for the predicted name hears through its query, and its attention moves.
# A head that works on what already stands at the last position hears through its value and looks where it looked.


# %%
def hear(
    change: Float[Tensor, "prompt d_model"], layer: int, inputs: str = ""
) -> dict[str, Float[Tensor, "prompt 1 head d_head"]]:
    """Outputs of a layer's heads at the end, if all inputs, or only one, hear of a change."""
    stream = cache["resid_pre", layer][:, -1]
    heard = last_token.attention(layer, stream + change)
    outputs = {"all": heard["z"]}
    for site in inputs:  # "q", "k", "v"
        patch = (get_act_name(site, layer), lambda clean, hook, site=site: heard[site])
        outputs[site] = last_token.attention(layer, stream, [patch])["z"]
    return outputs


# %%
def effect_of(z: Float[Tensor, "prompt d_head"], head: Head) -> float:
    """Direct effect of a head's output on the logit difference, with the clean scale."""
    written = z @ model.blocks[head.layer].attn.W_O[head.head]
    return residual_stack_to_logit_diff(written[None], cache, directions).item()


def reaction_to(change: Float[Tensor, "prompt d_model"], part: Head, inputs: str = "") -> dict:
    """Change of a head's direct effect if it hears of a change of the stream, by input."""
    was = cache["z", part.layer][:, -1, part.head]
    outputs = hear(change, part.layer, inputs)
    return {site: effect_of(z[:, -1, part.head] - was, part) for site, z in outputs.items()}


# %%
routes = []
for head, part in reactions:
    heard = reaction_to(-head_outputs[head[:2]], part, "qkv")
    routes.append([heard["q"], heard["k"], heard["v"], part.value - heard["all"]])
routes = pd.DataFrame(routes, labels, ["query", "key", "value", "by way of others"])


# %%
def values_of(run, head: Head) -> Float[Tensor, "prompt pos d_head"]:
    """A head's values; heads may share them."""
    values = run["v", head.layer]
    return values[:, :, head.head * values.shape[2] // n_heads]


changes = []
for head, part in reactions:
    runs = cache, ablated_runs[head]
    looks, looks_now = (run["pattern", part.layer][:, part.head, -1:] for run in runs)
    reads, reads_now = (values_of(run, part) for run in runs)
    attention, value = looks_now - looks, reads_now - reads
    mixed = [attention @ reads, looks @ value, attention @ value]  # [prompt, 1, d_head]
    changes.append([effect_of(z[:, 0], part) for z in mixed])
changes = pd.DataFrame(changes, labels, ["attention", "value", "both at once"])

# %%
table = pd.concat([changes, routes], axis="columns")
sums = table.iloc[:, :3].sum(axis="columns").tolist()
torch.testing.assert_close(sums, [part.value for _, part in reactions], atol=1e-3, rtol=0)
title = "What changes in each reacting head, and through which input it hears of the ablation"
if reactions:
    imshow(
        table.to_numpy(),
        title=title,
        x="what changes (left three), and the route by which it hears (right four)",
        y="reacting head",
        x_labels=list(table),
        y_labels=labels,
        value_name="change in logit difference",
        annotate=table.size,
        height=300 + 30 * len(table),
    )

# %%
to_itself = attention_between(cache, end, end)
table = pd.DataFrame(index=labels)
table["what moves"] = [findings.what_moves(row) for row in changes.to_dict("records")]
table["heard most of all"] = [findings.route(row) for row in routes.to_dict("records")]
table["attention to itself"] = [to_itself[part[:2]].item() for _, part in reactions]
show_table(table)

# %%
from itertools import combinations

for (head, one), (same_head, other) in combinations(sorted(reactions), 2):
    share = one.layer == other.layer and values_of(cache, one).equal(values_of(cache, other))
    if share and head == same_head and one.value * other.value < 0:
        say(findings.shared_values(one.name, other.name, together=one.value + other.value))

# %% [markdown]
# "Most of all" means the largest of the four routes, which need not be most of the whole. The three left columns
# add up to the head's bar in the account, which the figure's cell checks.
#
# *What it does not show.* What the heads do with what they hear. A head may hear through its query and then look at the
# predicted name, or away from it. And the routes are taken one at a time: where query, key and value interact, they need
# not add up (the last column takes up the rest).

# %% [markdown]
# ## 5. Copy suppression, or a fixed negative direction?
#
# **Question.** What are the heads that work against the answer *for*? McDougall et al.
# ([2023](https://arxiv.org/abs/2310.04625)) studied the strongest one of GPT-2 small: it looks for tokens in the context that
# the model is already about to predict, and pushes them down. They call it **copy suppression**. If so, self-repair has a
# simple cause: take away a head that predicts the name, and there is less for a suppressor to suppress.
#
# Three stories make different predictions when we *change what is predicted* just before the head runs. At the last
# position we add a vote for a name: the name's unembedding (less the average of all our names), so long that the logit
# lens rises by a given number of logits. Then:
#
# | | vote for a name in the prompt | vote for a name that is *not* in the prompt | a random vector of the same length |
# | --- | --- | --- | --- |
# | **copy suppression** | looks at that name more, pushes *that* name down | nothing to look at, so nothing | nothing |
# | **votes against any prediction** | pushes that name down | pushes that one down as well | nothing |
# | **a fixed negative direction** | nothing | nothing | nothing |
#
# One test has already been passed. Each pair of prompts swaps the names, and a direction that is fixed would help one
# prompt of a pair as much as it hurts the other: in the balanced average it would cancel. A head that is negative *on
# average* follows the names. What it follows them *by* is still open: it could follow a position as well as a prediction.

# %%
names = answer_tokens.unique()  # in ascending order
all_names = model.tokens_to_residual_directions(names)  # [name, d_model]
others = [[name for name in names.tolist() if name not in pair] for pair in answer_tokens.cpu()]
absent = torch.tensor([row[number % len(row)] for number, row in enumerate(others)])
named = {"IO": answer_tokens[:, 0], "S": answer_tokens[:, 1], "absent name": absent.to(names)}
above = {who: model.tokens_to_residual_directions(tokens) for who, tokens in named.items()}
above = {who: u - all_names.mean(0) for who, u in above.items()}  # raises it above the average
places = {"IO": ["IO"], "S": ["S1", "S2"], "absent name": []}

# %%
final_scale = cache["ln_final.hook_scale"][:, -1]  # [prompt, 1]
votes = {who: final_scale * u / u.pow(2).sum(-1, keepdim=True) for who, u in above.items()}

generator = torch.Generator().manual_seed(0)
noise = torch.randn(20, len(prompts), model.cfg.d_model, generator=generator).to(final_scale)
random_votes = votes["IO"].norm(dim=-1, keepdim=True) * noise / noise.norm(dim=-1, keepdim=True)


# %%
def answer_to(
    change: Float[Tensor, "case prompt d_model"], head: Head, direction: Tensor, places: list[str]
) -> tuple[Float[Tensor, " case"], Float[Tensor, " case"]]:
    """Direct effect along a direction, and attention to names, if a head's stream is changed."""
    stream = cache["resid_pre", head.layer][:, -1] + change
    run = last_token.attention(head.layer, stream.flatten(0, 1))
    z = run["z"][:, -1, head.head].unflatten(0, change.shape[:2])
    looks = run["pattern"][:, head.head, -1].unflatten(0, change.shape[:2])
    written = z @ model.blocks[head.layer].attn.W_O[head.head]
    effect = residual_stack_to_logit_diff(written, cache, direction)
    at_names = [looks[:, range(len(prompts)), names_at[place]].mean(-1) for place in places]
    return effect, sum(at_names, torch.zeros_like(effect))


# %% [markdown]
# Whom to test: the most negative heads, the heads we ablated, and all heads that reacted. The numbers are slopes: for one more
# logit of prediction, how much more the head adds to that name, and how much more it looks at it. The random vectors are
# the yardstick: they have no sign of their own, so what is shown is the usual size of a slope by chance (root mean square
# over several draws).

# %%
negative = [head for head in top_heads(by_head, 10, smallest=True) if head.layer > 0][:3]
candidates = {head[:2] for head in [*negative, *ablated_heads, *(part for _, part in reactions)]}
tested = [Head(*place, by_head[place].item()) for place in sorted(candidates) if place[0] > 0]
strength = 3.0  # logits of vote, up and down


def slopes(vote: Float[Tensor, "case prompt d_model"], head: Head, who: str) -> list[Tensor]:
    """Change of a head's effect on a name, and of its attention to it, for each logit of vote."""
    up_and_down = torch.cat([strength * vote, -strength * vote])
    found = [values.chunk(2) for values in answer_to(up_and_down, head, above[who], places[who])]
    return [(up - down) / (2 * strength) for up, down in found]


# %%
push, attention = pd.DataFrame(), pd.DataFrame()
for head in tested:
    found = {who: slopes(vote[None], head, who) for who, vote in votes.items()}
    by_draw = slopes(random_votes, head, "IO")
    found["random (size)"] = [slope.pow(2).mean().sqrt() for slope in by_draw]
    for table, part in ((push, 0), (attention, 1)):
        table[head.name] = pd.Series({who: slope[part].item() for who, slope in found.items()})
push, attention = push.T, attention.T

# %%
imshow(
    [push.to_numpy(), attention.to_numpy()],
    title="Vote for a name just before a head: does the head answer?",
    x="what is voted for",
    y="head",
    x_labels=list(push),
    y_labels=list(push.index),
    facet_labels=[
        "its push on that name, per logit of vote",
        "its attention to that name, per logit",
    ],
    value_name="slope",
    annotate=push.size,
    height=330 + 30 * len(push),
)

# %% [markdown]
# The same as curves, for the two heads with the steepest answer to a name that is in the prompt: what the head itself
# adds to a name, as the prediction of that name is turned up or down.

# %%
doses = torch.tensor([-6.0, -3.0, 0.0, 3.0, 6.0]).to(final_scale)
for head in sorted(tested, key=lambda head: push["IO"][head.name] + push["S"][head.name])[:2]:
    curves = {}
    for who, vote in votes.items():
        curves[who], _ = answer_to(doses[:, None, None] * vote, head, above[who], places[who])
    title = f"{head.name}: what it adds to a name, against how strongly that name is predicted"
    x, y = "vote for the name, in logits", "logits added to it by the head"
    line(curves, title=title, x=x, y=y, x_labels=[f"{dose:+.0f}" for dose in doses])

# %% [markdown]
# **In the model's own handwriting.** A vote is our idea of a prediction. The other way to change what is predicted is to
# let the model do it: at the last position, give the head the residual stream of the *partner* prompt, in which the other
# name is the right answer. All earlier positions stay, so the same names stand in the same places to be looked at. A head
# that suppresses what is predicted should now look at S more and at IO less, and its effect on the logit difference should
# change sign. A head that pushes in a fixed direction, or always at one place, should go on as before. (A name mover should
# turn as well: it follows the queries that tell it whom to look for. We say *turns round* if the sign changes and at least
# a quarter of the size is left.)

# %%
partner = [number ^ 1 for number in range(len(prompts))]
table = pd.DataFrame()
for head in tested:
    own = cache["resid_pre", head.layer][:, -1]
    streams = torch.stack([own, own[partner]]) - own
    effect, to_io = answer_to(streams, head, directions, ["IO"])
    _, to_s = answer_to(streams, head, directions, ["S1", "S2"])
    table[head.name] = pd.Series([*effect.tolist(), *to_io.tolist(), *to_s.tolist()])
what = ("effect", "attention to IO", "attention to S")
table.index = [f"{one}, {whose} stream" for one in what for whose in ("own", "partner's")]
table = table.T
table["so it"] = [findings.turns_round(*effects) for effects in table.iloc[:, :2].to_numpy()]
show_table(table, decimals=2)

# %% [markdown]
# Last, what a head does to a name *if* it looks at it: take its values at the positions of IO and of the second subject,
# send them through its output matrix, and see where, among all our names, the name that stands there comes out. Then all
# of it in one table, and each head sorted by these rules:
#
# - It **answers to the prediction** if its slope, averaged over the votes for IO and for S, is at least a hundredth of a logit
#   for each logit of vote, and more than twice what random vectors do.
# - Against the prediction, it does so **in the prompt or not** if the vote for an absent name moves it at least half as much.
# - Otherwise it is a **copy suppressor** if it looks more at a name that is voted for, by more than twice what random vectors
#   do, and lowers the name that it looks at: on average, and below all our other names on more than half of the prompts.
#
# Random vectors give a slope beyond twice their usual size about once in twenty times. With half a dozen heads, a head just
# past that border is no discovery.

# %%
from helpers.readout import read_directions

readers = read_directions(model, all_names).T  # [d_model, name]
at = torch.stack([names_at["IO"], names_at["S2"]])  # [place, prompt]
own = torch.searchsorted(names, answer_tokens.T.contiguous())  # which of the names stands there
reads = pd.DataFrame()
for head in tested:
    values = values_of(cache, head)[range(len(prompts)), at]  # [place, prompt, d_head]
    written = values @ model.blocks[head.layer].attn.W_O[head.head]
    on_names = written @ readers / final_scale  # [place, prompt, name]
    on_it = on_names.gather(-1, own[..., None])[..., 0] - on_names.mean(-1)
    lowest = (on_names.argmin(-1) == own).float()
    reads[head.name] = pd.Series([on_it.mean().item(), lowest.mean().item()])

# %%
table = pd.DataFrame({"direct effect": {head.name: head.value for head in tested}})
table["slope in prompt"] = (push["IO"] + push["S"]) / 2
table["slope absent"], table["slope by chance"] = push["absent name"], push["random (size)"]
table["slope of attention"] = (attention["IO"] + attention["S"]) / 2
table["attention by chance"] = attention["random (size)"]
table[["on the name it reads", "lowest of all"]] = reads.T
table["so it"] = table.apply(findings.kind, axis="columns")
show_table(table)
kind_of = table["so it"].to_dict()
negative_kinds = table["so it"][table["direct effect"] < 0].to_dict()
say(findings.negative_heads(negative_kinds))

# %% [markdown]
# **Is it the prediction that the reacting heads miss?** Of what the ablated head wrote, only a part lies along the
# unembeddings of our names; that part *is* its prediction, as the output reads it. Take only that part out of a reacting
# head's inputs, then only the rest. If the prediction is all that counts, the first does all of it.

# %%
along_names = torch.linalg.qr(all_names.T).Q  # orthonormal, [d_model, name]
rows = []
for head, part in reactions:
    removed = -head_outputs[head[:2]]
    prediction = removed @ along_names @ along_names.T
    lost = (removed, prediction, removed - prediction)
    rows.append([reaction_to(change, part)["all"] for change in lost])
columns = ["all that was written", "its prediction of names", "the rest"]
to_parts = pd.DataFrame(rows, labels, columns).rename_axis("reaction, if inputs lose")
show_table(to_parts, signed=True)

# %% [markdown]
# *What would have falsified it.* A negative head whose effect stays where it is while we turn the prediction round does
# not suppress predictions, whatever it looks at. The control matters: random vectors of the same length disturb the
# head as much, and tell it nothing.
#
# *What it does not show.* The partner's stream says more than which name is predicted: it also says who is repeated, and
# where. And it does not show that an unembedding vector is what the *model's own* prediction looks like at that depth. The
# slopes can be small because the vote is not in the model's handwriting. Nor that suppressing copies is all that the
# head does elsewhere: McDougall et al. made that case for one head, over a whole text corpus.

# %% [markdown]
# ## 6. Is it the ablation, or the kind of ablation?
#
# **Question.** A head never writes zero by itself. Later parts then see a stream unlike any in training, and a reaction
# may be to *that*. Is the account the same if the head is replaced by something it might have written?
#
# - **Zero ablation**: nothing is written.
# - **Mean ablation**: the head's average output over many prompts: what it always writes, without what it writes *here*.
# - **Resample ablation**: its output on another prompt, drawn at random, with neither name in common. It is an output
#   that the model really produces, about other people.
#
# And eight prompts are few. `sample_ioi` draws many, from several sentence frames, with other names, places and objects,
# half of them naming the indirect object first (ABBA) and half the subject (BABA). Intervals are bootstrap intervals over
# prompts, by `scipy.stats.bootstrap`.

# %%
from helpers.ioi.dataset import sample_ioi

many = sample_ioi(model, 200, seed=0)
layers = {head.layer for head in ablated_heads}
z_names = [get_act_name("z", layer) for layer in layers]
_, kept = model.run_with_cache(many.tokens, names_filter=z_names, stop_at_layer=max(layers) + 1)
outputs = {head: kept["z", head.layer][:, -1, head.head] for head in ablated_heads}
print("\n".join([*many.prompts[:3], f"… {len(many)} prompts"]))

# %%
strangers, replacements = many.strangers(seed=1), {}
for head, z in outputs.items():  # [prompt, d_head]
    replacements[head, "zero"] = head, torch.zeros_like(z)
    replacements[head, "mean"] = head, z.mean(0).expand_as(z)
    replacements[head, "resample"] = head, z[strangers]
many_accounts = account_for(model, many.tokens, many.answer_tokens, replacements)
before = many_accounts[top, "zero"].before
right = (before > 0).float().mean()
print(f"{len(many)} prompts: logit difference {mean_interval(before)}, right on {right:.0%}")

# %%
kinds = ("zero", "mean", "resample")
for head in ablated_heads:
    parts = {kind: many_accounts[head, kind].summary for kind in kinds}
    intervals(
        {kind: mean_interval(torch.stack(list(parts[kind].values()))) for kind in kinds},
        labels=list(parts["zero"]),
        title=f"Replacing {head.name} at the last position, on {len(many)} prompts",
        x="change in logit difference (95 % bootstrap interval)",
        y="",
        horizontal=True,
        height=420,
    )

# %%
repairs = {case: repair(-of.direct, of.made_up) for case, of in many_accounts.items()}
for head in ablated_heads:
    table = pd.DataFrame({kind: many_accounts[head, kind].summary for kind in kinds})
    show_table(table.map(mean_interval).map(str).rename_axis(f"without {head.name}"))
    say(findings.by_kind_of_ablation(head.name, {kind: repairs[head, kind] for kind in kinds}))

# %% [markdown]
# ### A name, or a place?
#
# Resampling allows a sharper question. What the ablated head writes could tell later heads *who* is predicted, or *where*
# that name stands (first or second in the sentence). So we draw the stranger from prompts that name IO and S in the
# *same* order, or from those with the *other* order.
#
# **What we would expect.** A head that misses a *name* reacts alike to both strangers: neither says the right name. A head
# that misses a *place* hardly reacts to a stranger of the same order, and much to one of the other.

# %%
orders = {"same": many.strangers(2, ["same"]), "other": many.strangers(3, ["other"])}
replacements = {}
for head, z in outputs.items():
    for order, strangers in orders.items():
        replacements[head, order] = head, z[strangers][:100]
by_order = account_for(model, many.tokens[:100], many.answer_tokens[:100], replacements)

# %%
rows = []
for head, part in reactions:
    same, other = (by_order[head, order].heads[part[:2]] for order in orders)
    sign = other.mean().sign()
    more, twice = (mean_interval(sign * (other - times * same)).plain() for times in (1, 2))
    verdict = findings.misses(same=mean_interval(same).plain(), more=more, twice=twice)
    rows.append([*(str(mean_interval(v)) for v in (same, other, other - same)), verdict])
columns = ["stranger of the same order", "of the other order", "other less same", "so it"]
to_strangers = pd.DataFrame(rows, labels, columns)
show_table(to_strangers)

# %% [markdown]
# *What it does not show.* The sentence frames are few and the prompts share them, so the intervals speak about *these*
# frames with other draws of words, not about English. The mean and the resampled output still say "a name goes
# here"; they remove which one.

# %% [markdown]
# ## 7. Self-repair, head by head
#
# **Question.** McGrath et al. ([2023](https://arxiv.org/abs/2307.15771)) found that language models make up for ablated
# layers, and called it the *Hydra effect*. Is it a property of this model, or of a few of its heads?
#
# **What we would expect.** If repair were general, every head's measured loss would fall short of its predicted one by
# about the same share. If it is the doing of a particular mechanism, it should show for the heads that feed that
# mechanism and for no others. Copy suppression, for one, would repair the loss of heads that *predict a name*, and do
# nothing for heads that lower one.

# %%
from helpers.accounts import head_attribution

attribution = head_attribution(model, many.tokens, many.answer_tokens).mean(-1)
large = top_heads(attribution.abs(), 8)
nothing = torch.zeros(len(many), model.cfg.d_head, device=many.tokens.device)
replacements = {head: (head, nothing) for head in large}
lost = account_for(model, many.tokens, many.answer_tokens, replacements)
losses = {
    "predicted: direct attribution": torch.stack([-account.direct for account in lost.values()]),
    "measured by zero ablation": torch.stack([-account.parts for account in lost.values()]),
}

# %%
intervals(
    {name: mean_interval(loss) for name, loss in losses.items()},
    labels=[head.name for head in large],
    title=f"What ablating a head should cost, and what it costs ({len(many)} prompts)",
    x="loss of logit difference (95 % bootstrap interval)",
    y="ablated head",
    horizontal=True,
    height=480,
)


# %%
def looked_at(head: Head) -> str:
    """The name that a head looks at on the eight prompts, if it looks at any (see section 2)."""
    attention = {name: values[head[:2]].item() for name, values in looks_at.items()}
    return findings.looked_at(attention, even=even_share)


rows = []
for head, account in lost.items():
    loss, made_up = -account.direct, account.made_up
    cells = [str(mean_interval(values)) for values in (loss, -account.parts, made_up)]
    cells.append((made_up.mean() / loss.mean()).item())
    rows.append([looked_at(head), *cells, repair(loss, made_up)])
columns = ["looks at", "predicted loss", "measured loss", "made up", "share", "so it is"]
table = pd.DataFrame(rows, [head.name for head in large], columns)
show_table(table, decimals=2, signed=True)
say(findings.who_is_repaired(table["so it is"].to_dict(), table["looks at"].to_dict()))

# %% [markdown]
# *What it does not show.* Heads of small effect, and heads ablated together. A share is a ratio: for a head that hardly
# writes anything it means little, which is why only the largest are listed and the loss stands beside it.

# %% [markdown]
# ## 8. The answers
#
# ### Why do other heads change what they do?

# %%
for head in ablated_heads:
    groups = many_accounts[head, "zero"].groups
    changes = {name: mean_interval(change).plain() for name, change in groups.items()}
    say(
        findings.answer(f"{head.name} (looks at {looked_at(head)})", repairs[head, "zero"], changes)
    )

# %%
changes = [many_accounts[head, "zero"].heads[part[:2]] for head, part in reactions]
table = pd.DataFrame(index=labels)
table[f"change on {len(many)} prompts"] = [str(mean_interval(change)) for change in changes]
table["it"] = [kind_of[part.name] for _, part in reactions]
show_table(table)
of_whole = routes["by way of others"].abs() / [abs(part.value) for _, part in reactions]
together = int((of_whole > 0.5).sum())
say(findings.told_by(directly=len(reactions) - together, by_way_of_others=together))

# %% [markdown]
# ### Why does a negative head matter less?

# %%
less = [
    (head, part, falls, order, to_parts.iloc[row, 1] / to_parts.iloc[row, 0])
    for row, ((head, part), falls, order) in enumerate(zip(reactions, worth, to_strangers["so it"]))
    if by_head[part[:2]] < -abs(clean) / 100 and part.value > 0
]
for head, part, falls, order, predicted in less:
    both_runs = (cache, ablated_runs[head])
    to_io = [attention_between(run, end, names_at["IO"])[part[:2]].item() for run in both_runs]
    say(findings.why_it_matters_less(part.name, head.name, what=kind_of[part.name], io=to_io))
    say(findings.what_else_it_hears(part.name, head.name, prediction=predicted, order=order))
    print(f"Held still, it would leave the logit difference {falls:.2f} lower.\n")

# %% [markdown]
# ### Against the story of GPT-2 small

# %%
account = many_accounts[top, "zero"]
share = (account.made_up.mean() / -account.direct.mean()).item()
is_made_up = share > 0.5 and repairs[top, "zero"] == findings.MADE_UP
suppressors = [name for name, kind in negative_kinds.items() if kind == findings.COPY_SUPPRESSION]
agreements = {
    "the largest writer is a name mover": (top.name == name_mover, True),
    "its loss is mostly made up for": (is_made_up, published_share > 0.5),
    "a negative head matters less (Wang et al., 2022)": (bool(less), True),
    "some negative head suppresses copies (McDougall et al., 2023)": (bool(suppressors), True),
}
show_table(beside_published(agreements, model.cfg.model_name))
say(findings.against_the_story(agreements))

# %% [markdown]
# ## 9. What remains open
#
# - **Why the MLPs react as they do.** They are one bar here. Neurons, or paths through single MLPs, could be taken apart
#   the same way.
# - **What else a suppressor reads.** Suppression was tested with unembedding vectors, and section 5 took the ablated
#   head's output apart along them. Where the rest weighs as much as the prediction, the head reads something that we
#   have not named.
# - **More than one at a time.** Two heads that stand in for each other show only when both are gone. Ablating pairs is
#   the loop of section 2 with two hooks.
# - **Why a model would do this.** A suppressor lowers the loss on text in which a word just seen does not come again.
#   That is a claim about training text, and needs that text.

# %% [markdown]
# ## 10. Exercises
#
# <details><summary>1. Ablate the head at <em>all</em> positions instead of the last. Which step of the account fails first?</summary>
#
# None fails: the parts still add up, because they are read at the last position. But the argument of section 4 does.
# A later head's values at earlier positions may now change too, and "value" no longer means "what it reads from itself".
#
# </details>
#
# <details><summary>2. Hold the suppressor's attention where it was. Does the repair vanish?</summary>
#
# Hook its `pattern` at the last position to the clean run's, together with the ablation. If its reaction went through its
# query, this undoes it, and the measured loss grows by about its bar in the account.
#
# </details>
#
# <details><summary>3. Vote for a word that is no name, and that is in the prompt. Does a copy suppressor push it down?</summary>
#
# Put the unembedding of, say, `" shops"` less the names' average into `above`, and its position into `names_at` and
# `places`. If the head suppresses copies in general, it should answer; if it only deals in names, not.
#
# </details>
#
# <details><summary>4. The share made up for can exceed one, or have no meaning at all. When?</summary>
#
# It exceeds one when the model does *better* without a head whose direct effect is positive: what the head's output
# provokes costs more than it brings. And it means nothing when the direct effect is near zero. That is why intervals are
# given for the amount made up, in logits, and not for the share.
#
# </details>
