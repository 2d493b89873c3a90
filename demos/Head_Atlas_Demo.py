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
# # The head atlas: every attention head of a model, with what is known about it
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ioi-exploration-demos/ioi-exploration-demos/blob/main/demos/Head_Atlas_Demo.ipynb)
#
# A model has hundreds of attention heads, and whoever finds one that matters asks the same question first: *is it
# anything known?* An atlas answers that. One row a head, one column a score, an error for each, for any model.
#
# **What you will do.** Get the atlas of a model; sort it, map it, plot any score against any other; look at the
# strongest head of each kind; hold the model against GPT-2 small; and add a score of your own.
#
# **What you will learn.** What the common scores measure and what they miss. Several of them seem to say the same
# thing, and the interesting heads are those on which they disagree.
#
# **What you need.** A rough idea of what an attention head is; the
# [exploratory demo](Exploratory_Analysis_Demo.ipynb) gives one. A laptop is enough: with a stored atlas this notebook
# takes about a minute, and building one for a small model a minute or two more.

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

from helpers.atlas.build import Settings, build_atlas, load_or_build
from helpers.atlas.published import published_atlas
from helpers.atlas.questions import KINDS, heads_of_kind, is_known, most_similar, relative_depth
from helpers.atlas.views import head_table, score_table, sortable_table
from helpers.findings import atlas as findings
from helpers.head_scores import Head, top_heads
from helpers.models import load_model
from helpers.plotting import attention_patterns, head_map, line, scatter
from helpers.tables import show_table
from helpers.wording import enumerated, listing, say

_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## 2. Get the atlas
#
# `load_or_build` looks for a stored atlas of the very same weights, scores and settings in a folder, and measures
# everything if there is none. On the command line, `python -m helpers.atlas --model NAME --out DIR` does the same and
# writes the table as CSV and Parquet; if it is interrupted, it goes on where it was.

# %%
model = load_model()
atlas, was_stored = load_or_build(model, "atlas")
n_layers, n_heads = atlas.info["n_layers"], atlas.info["n_heads"]
print(f"{atlas.info['model']}: {n_layers * n_heads} heads, {len(atlas.scores)} scores")
print("stored" if was_stored else "measured just now")
if atlas.info["unavailable"]:
    show_table(pd.DataFrame({"not to be had for this model": atlas.info["unavailable"]}))

# %% [markdown]
# ### What the scores are
#
# Every score comes with its **null**: what a head would score that knows nothing, which for attention is a head that
# looks everywhere alike. A score is only worth something against its null, and the nulls are not all zero.
#
# <details><summary>The table of scores, from their docstrings</summary>
#
# It is printed by the next cell. The formula and the source of each are in its docstring (`describe(induction)`), and in
# the JSON file beside the stored table.
#
# </details>

# %%
score_table(atlas)

# %% [markdown]
# <details><summary>★ Tokens that repeat, text, circuits, a task: four ways to ask</summary>
#
# - **Random tokens that repeat** have no meaning and no grammar. Whatever a head does there is about repetition and
#   position. That makes the score clean, and says little about what the head does in a sentence.
# - **Text** shows where a head spends its attention day by day. Most of it goes to the first token.
# - **Circuits** ask the weights: *if* the head attended to this token, what would it write (OV)? *Would* this query like
#   that key (QK)? For rotary position embeddings the query and key are compared before rotation, as if both tokens
#   stood at one position; what distance does to the match is left out.
# - **A task** (Indirect Object Identification) asks what a head does for one number that we care about. A head can be of
#   no known kind and still be decisive, or the other way round.
#
# </details>

# %% [markdown]
# ### Can the numbers be trusted?
#
# **Question.** Each score has a standard error, over rows of tokens, over passages, or over pairs of prompts. Is it
# honest?
#
# **What we would expect.** Measure again with other random tokens and names. If the errors are right, about nineteen
# scores in twenty land within two (combined) errors of the stored ones, and a little fewer where an error is itself
# estimated from few samples. If they were too small, far fewer would.

# %%
groups = ["attention on repeated tokens", "IOI attention and attribution"]
again = build_atlas(model, Settings(seed=1), groups=groups, progress=False)
within = {}
for score in again.scores:
    combined = (again.error(score) ** 2 + atlas.error(score) ** 2).sqrt().clamp(min=1e-4)
    apart = (again.score(score) - atlas.score(score)).abs() / combined
    within[score] = (apart < 2).float().mean().item()
show_table(pd.DataFrame({"share of heads within two errors": within}))

# %% [markdown]
# *What it does not show.* Errors cover the luck of the draw, not the choice of the game: other lengths, other
# languages, other templates would move the scores by more than that.

# %% [markdown]
# ## 3. The table
#
# Sorted by any score: here as a plain table, with one line of code for another.

# %%
head_table(atlas, by="induction")

# %%
head_table(atlas, by="copying_eigenvalue", smallest=True, count=6)

# %% [markdown]
# And with a menu, where figures are alive (JupyterLab, VS Code, Colab):

# %%
sortable_table(atlas, by="induction", count=12)

# %% [markdown]
# `atlas.table` is a pandas table, for everything else: `atlas.table.sort_values("entropy")`,
# `atlas.table.query("induction > first_token")`.

# %% [markdown]
# ## 4. Maps
#
# **Question.** Is a kind of head spread over the model, or does it live somewhere?
#
# **What we would expect.** If depth means stages of work, kinds come in bands: position first, repetition then, words
# for the output last. If depth meant nothing, the marks would be scattered.


# %%
def maps(scores: list[str], title: str, value_name: str, limits: tuple[float, float]) -> None:
    """Layer × head maps of those scores that the atlas has, and the top heads of each."""
    values = {score: atlas.score(score) for score in scores if score in atlas.scores}
    scale = "diverging" if limits[0] < 0 else "sequential"
    options = {"value_name": value_name, "value_range": limits, "scale": scale, "annotate": 3}
    head_map(values, title=title, **options)
    table = pd.DataFrame({"null": {score: atlas.null(score) for score in values}})
    table["top"] = [listing(top_heads(heads, 3)) for heads in values.values()]
    if limits[0] < 0:
        lowest = [top_heads(heads, 1, smallest=True) for heads in values.values()]
        table["lowest"] = list(map(listing, lowest))
    show_table(table)


# %%
scores = ["previous_token", "duplicate_token", "induction", "prefix_matching", "prefix_copying"]
maps(scores, "On random tokens that repeat", "share", (0, 1))

# %%
scores = ["first_token", "self_attention", "local_window", "entropy"]
maps(scores, "On text: where attention goes", "share", (0, 1))

# %% tags=["thumbnail"]
scores = ["ov_eigenvalue", "copying_eigenvalue", "copying_rank", "qk_same_token"]
title = "Circuits: copying (blue) and suppression (red); matching a token with itself"
maps(scores, title, "score", (-1, 1))

# %%
scores = ["copying_top5", "suppression_top5"]
scores += ["ioi_attention_io", "ioi_attention_s1", "ioi_attention_s2"]
title = "A token in the top five, raised or lowered; attention in the IOI task"
maps(scores, title, "share", (0, 1))

# %% [markdown]
# The last three are effects, two of them in logits and one as the part of the logit difference that patching restores.
# Colours end at one; hover for what lies beyond.

# %%
scores = ["induction_logit", "ioi_attribution", "ioi_patching"]
title = "Effects: on the next repeated token, on the right name, and by patching"
maps(scores, title, "effect", (-1, 1))


# %%
def mean_depth(one, heads: list[Head]) -> float:
    """Average relative depth, 0 for the first layer and 1 for the last."""
    depths = [relative_depth(one, head.layer) for head in heads]
    return sum(depths) / len(depths) if depths else float("nan")


of_kind = {kind: heads_of_kind(atlas, kind) for kind in KINDS}
table = pd.DataFrame({"heads": {kind: len(heads) for kind, heads in of_kind.items()}})
table["mean depth, 0 to 1"] = [mean_depth(atlas, heads) for heads in of_kind.values()]
show_table(table)
everyone = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
nameless = [head for head in everyone if not is_known(atlas, *head)]
print(f"Of no kind at all: {len(nameless)} of {len(everyone)} heads.")

# %% [markdown]
# The last line is the humbling one. An atlas is a list of what people have thought of looking for.

# %% [markdown]
# ## 5. Any score against any other
#
# ### Looking is not writing
#
# **Question.** An induction head looks at what followed the earlier copy. Does it then also *say* so?
#
# **What we would expect.** If looking meant writing, the points would lie on a rising line. Heads to the right and at
# zero look and do not write to the output: they tell other heads, or nobody. Heads that write without looking write it
# for some other reason.

# %%
looks, writes = atlas.score("induction"), atlas.score("induction_logit")
title = "Induction: where a head looks, and what it writes"
x = "attention to what followed the earlier copy"
y = "raises the logit of that token by"
scatter(looks, writes, title=title, x=x, y=y, annotate=10)

# %%
from helpers import tables

lookers, writers = top_heads(looks, 5), top_heads(writes, 5)
both = [head.name for head in lookers if head[:2] in {writer[:2] for writer in writers}]
heads = dict.fromkeys(head[:2] for head in lookers + writers)
show_table(tables.head_table(heads, {"looks": looks, "writes, logits": writes}))
say(f"Among the five that look most and the five that write most: {enumerated(both)}.")

# %% [markdown]
# *What it does not show.* Direct effects only. A head that looks and does not write may feed one that does.

# %% [markdown]
# ### One idea, two formulas
#
# **Question.** A head copies if its OV circuit maps a token to itself. The textbook score takes the eigenvalues of that
# circuit on the plain embeddings. `copying_eigenvalue` takes them on tokens as heads read them, after the first block,
# and leaves out what all tokens share. Does it matter?
#
# **What we would expect.** If not, all points lie on the dotted line. Where embeddings share a strong direction, one
# large eigenvalue can decide the textbook score, and push it to one end or the other whatever the head does. The judge is
# the rank: where does a token land among all logits if the head attends to it?

# %%
textbook, as_read = atlas.score("ov_eigenvalue"), atlas.score("copying_eigenvalue")
title = "Copying by eigenvalues, on plain embeddings and on what heads read (dotted: the same)"
x, y = "on plain embeddings (ov_eigenvalue)", "after the first block (copying_eigenvalue)"
scatter(textbook, as_read, title=title, x=x, y=y, diagonal=True, annotate=0)

# %%
rank = atlas.score("copying_rank")
both = {"on plain embeddings": textbook, "as read": as_read}
table = pd.DataFrame(index=both)
table["correlation with the rank"] = [
    torch.stack([values.flatten(), rank.flatten()]).corrcoef()[0, 1].item()
    for values in both.values()
]
table["heads beyond ±0.9"] = [int((values.abs() > 0.9).sum()) for values in both.values()]
show_table(table)
say(findings.closer_formula(table["correlation with the rank"].to_dict()))

# %%
print("They disagree most about:")
heads = top_heads((textbook - as_read).abs(), 4)
show_table(tables.head_table(heads, {**both, "by rank": rank}), signed=True)

# %% [markdown]
# ## 6. The strongest head of each kind
#
# One sentence, twice. What is written there repeats, so the simple kinds should draw their diagonals: next to the main
# one (previous token), half the text below it (duplicate), one step off from that (induction).
#
# **What would falsify it.** A head that scores high on random tokens and does nothing of the kind in a sentence.

# %%
sentence = "The old clock by the door strikes nine."
tokens = model.to_tokens(f"{sentence} {sentence}")
_, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))


def strongest(kind: str) -> Head:
    """The head that comes first by the score of a kind, of that kind or not."""
    return top_heads(atlas.score(KINDS[kind].score), 1, smallest=KINDS[kind].threshold < 0)[0]


# %%
def show_kinds(kinds: list[str], cache, tokens: Tensor, title: str) -> None:
    """Attention pictures of the strongest head of each kind, and whether it counts as one."""
    heads = [strongest(kind) for kind in kinds]
    attention_patterns(
        torch.stack([cache["pattern", head.layer][0, head.head] for head in heads]),
        tokens=model.to_str_tokens(tokens[0]),
        names=[head.name for head in heads],
        notes=kinds,
        title=title,
    )
    table = pd.DataFrame(heads, kinds)[["value"]]
    table["error"] = [
        atlas.error(KINDS[kind].score)[head[:2]].item() for kind, head in zip(kinds, heads)
    ]
    table["of the kind"] = ["yes" if of_kind[kind] else "too weak" for kind in kinds]
    show_table(table.assign(head=[head.name for head in heads]))


# %%
kinds = ["previous token", "duplicate token", "induction"]
show_kinds(kinds, cache, tokens, "Heads that follow position and repetition")

# %%
kinds = ["rests on the first token", "looks at itself", "spreads its attention"]
show_kinds(kinds, cache, tokens, "Heads that look for nothing in particular")

# %%
kinds = ["copies", "suppresses", "matches a token with itself"]
show_kinds(kinds, cache, tokens, "Heads told by their circuits")

# %% [markdown]
# And in the task, on one of its prompts:

# %%
from helpers.ioi.prompts import reference_prompts

prompts = reference_prompts(model)
_, task_cache = model.run_with_cache(
    prompts.tokens[:1], names_filter=lambda name: name.endswith("hook_pattern")
)
kinds = ["favours the right name", "favours the wrong name"]
title = "In the task: heads that favour the right name and the wrong one"
show_kinds(kinds, task_cache, prompts.tokens, title)
right, wrong = prompts.answers[0]
print(f"prompt: {prompts.prompts[0]} … right:{right}, wrong:{wrong}")

# %% [markdown]
# ## 7. Across models
#
# GPT-2 small's published scores are an atlas too, of five columns, kept apart from what is measured here: they come
# from other samples, and carry no errors.
#
# **Question.** Does another model have the same kinds, as many of them, at the same relative depth?
#
# **What we would expect.** If these kinds are what training finds again and again, then yes, roughly. If they are an
# accident of one model, no.

# %%
from helpers.ioi.record import beside_published

published = published_atlas()
rows = {}
for kind in [kind for kind in KINDS if KINDS[kind].score in published.scores]:
    both = [(one, heads_of_kind(one, kind)) for one in (atlas, published)]
    rows[f"{kind}: heads"] = [len(heads) for _, heads in both]
    rows[f"{kind}: part of all heads"] = [len(heads) / len(one.table) for one, heads in both]
    rows[f"{kind}: mean relative depth"] = [mean_depth(*pair) for pair in both]
show_table(beside_published(rows, atlas.info["model"]))

# %%
STAGES = 6


def by_depth(one, score: str) -> list[float]:
    """The strongest head's score in each sixth of the layers."""
    layers = one.score(score).max(1).values
    return [part.max().item() for part in layers.tensor_split(STAGES) if len(part)]


runs = {"this run": atlas, "GPT-2 small (published)": published}
series = {
    f"{score}, {who}": by_depth(one, score)
    for score in ("previous_token", "induction")
    for who, one in runs.items()
}
shortest = min(len(values) for values in series.values())
line(
    {name: values[:shortest] for name, values in series.items()},
    title="The strongest head of each sixth of the model",
    x="sixth of the layers, first to last",
    y="score",
    x_labels=[f"{i + 1} of {STAGES}" for i in range(shortest)],
)


# %%
def peak(one, score: str) -> float:
    """Relative depth of the strongest head."""
    return relative_depth(one, top_heads(one.score(score), 1)[0].layer)


rows = {s: [peak(one, s) for one in runs.values()] for s in ("previous_token", "induction")}
print("Relative depth of the strongest head:")
show_table(beside_published(rows, atlas.info["model"]))

# %% [markdown]
# *What it does not show.* Thresholds are a choice, and the counts move with them. Nor does "the same kind" mean "the
# same job": that is decided by who listens.

# %% [markdown]
# ## 8. Questions in one line
#
# **Which heads are induction heads here?**

# %%
say(listing(heads_of_kind(atlas, "induction")))

# %% [markdown]
# **Is this head anything known?** Ask it of the heads that matter most for the task when they are patched.

# %%
important = top_heads(atlas.score("ioi_patching"), 6, by_size=True)
table = tables.head_table(important, {"patching": atlas.score("ioi_patching")})
table["kinds"] = [enumerated(is_known(atlas, *head[:2]), "nothing known") for head in important]
show_table(table, signed=True)

# %% [markdown]
# **Which head of the other model is most like it?** By profile: each score as a part of the strongest head's, over the
# five scores that both atlases have. Distance 0 is the same profile. None of the five looks into the OV circuit, so a
# head that copies and one that suppresses can pass for twins.

# %%
heads = [*of_kind["induction"][:3], *important[:4]]
twins = [most_similar(atlas, published, *head[:2])[0] for head in heads]
roles = published.table.set_index("name")["role"]
table = pd.DataFrame({"most similar in GPT-2 small": [twin.name for twin in twins]})
table["distance"] = [twin.value for twin in twins]
table["its role in the paper"] = [roles[twin.name] or "none" for twin in twins]
show_table(table.set_axis([head.name for head in heads]))

# %% [markdown]
# **And in this model itself: which two heads are most alike?** Over all scores, among the heads that are of some kind.

# %%
known = [head for head in everyone if is_known(atlas, *head)] or everyone
pairs = [(Head(*head, 0.0), most_similar(atlas, atlas, *head)[0]) for head in known]
head, twin = min(pairs, key=lambda pair: pair[1].value)
kinds = enumerated(is_known(atlas, *head[:2]), "no kind")
say(f"{head.name} and {twin.name}, distance {twin.value:.3f}: {kinds}")

# %% [markdown]
# ## 9. Heads that contradict themselves
#
# Kinds that should go together, and heads on which they do not. Each line is a question worth an afternoon.

# %%
look_twice = f"ioi_attention_io < {2 * atlas.null('ioi_attention_io')}"
contradictions = {
    "induction > 0.4 and induction_logit < 0.02": "look for induction, do not write the token",
    "induction_logit > 0.2 and induction < 0.2": "write the repeated token, hardly look at it",
    f"ioi_attribution > 0.1 and {look_twice}": "favour the right name, hardly look at it",
    "copying_eigenvalue < -0.5 and ioi_attribution > 0.1": "suppress, favour the right name",
    "copying_eigenvalue > 0.5 and ioi_attribution < -0.1": "copy, favour the wrong name",
    "qk_same_token > 0.9 and duplicate_token < 0.02": "match their own kind, look at no copy",
    "ov_eigenvalue > 0.3 and copying_eigenvalue < -0.5": "copy plain embeddings, not real ones",
}
rows = {
    what: [len(found := atlas.table.query(query)), ", ".join(found["name"].head(8)) or "none"]
    for query, what in contradictions.items()
}
columns = ["heads", "the first eight"]
show_table(pd.DataFrame.from_dict(rows, orient="index", columns=columns))

# %% [markdown]
# A head that favours the right name by *suppressing* the wrong one does, at the output, what a name mover does by
# copying. The same number in one column, opposite signs in another: that is why there is more than one column.

# %%
from helpers.atlas.questions import rank_of

writer = strongest("favours the right name")
scores = ["ioi_attribution", "ioi_attention_io", "ioi_attention_s2"]
scores += ["copying_eigenvalue", "suppression_top5"]
card = pd.DataFrame(
    {writer.name: {score: atlas.score(score)[writer[:2]].item() for score in scores}}
)
card[f"rank of {len(everyone)}"] = [rank_of(atlas, score, *writer[:2]) for score in scores]
show_table(card, signed=True)
say(findings.mover(card[writer.name].to_dict()))

# %% [markdown]
# ## 10. A score of your own, in ten lines
#
# A score of attention is a function from patterns to one number for each row and head. Give it the four lines that every
# score has, run it, and put it beside the others. Here: heads that look *two* tokens back.


# %%
def two_back(pattern: Float[Tensor, "batch head dest src"]) -> Float[Tensor, "batch head"]:
    """Attention to the token before the previous one. Measured on text.

    Formula: mean over i >= 2 of A[i, i-2].
    Range: 0 to 1; 1 if the head attends nowhere else.
    Null: even attention, mean over i >= 2 of 1/(i+1).
    Source: this notebook.
    """
    return pattern.diagonal(-2, dim1=-2, dim2=-1).mean(-1)


# %%
from helpers.atlas.attention import pattern_samples
from helpers.atlas.inputs import passages
from helpers.atlas.scores import describe

samples = pattern_samples(model, passages(model), {"two_back": two_back}, progress=False)
measured = samples["two_back"]
columns = {"two back": measured.value, "error": measured.error}
columns["previous token"] = atlas.score("previous_token")
show_table(tables.head_table(top_heads(measured.value, 5), columns))
print(f"null {measured.null:.3f}; {describe(two_back)['formula']}")

# %% [markdown]
# To have it in every atlas, put the function into `helpers/atlas/attention.py` and its name into `TEXT_SCORES`; the
# table, the schema and the command line follow. And write its test first: a head that was built to score 1, and a head
# that spreads its attention evenly, which must score the null.

# %% [markdown]
# ## 11. Exercises
#
# <details><summary>1. Which scores say the same thing twice?</summary>
#
# `atlas.table[atlas.scores].corr("spearman")` shows it. The three kinds of attention to the name tokens go together,
# since a head that looks at names looks at all of them. Attention on repeated tokens and on the fourfold repetition
# nearly agree, and where they do not, a longer context has changed what the head does.
#
# </details>
#
# <details><summary>2. Move the threshold of a kind from one half to one fifth. What happens to the counts?</summary>
#
# `(atlas.score("induction") > 0.2).sum()`. If the count jumps, there was no gap, and "induction head" is a matter of
# degree in this model. Compare with `top_heads(atlas.score("induction"), 20)`: is there a place where you would cut?
#
# </details>
#
# <details><summary>3. A head rests on the first token nearly always, and has a high induction score. How can both be?</summary>
#
# The first is measured on text, where little repeats exactly; the second on tokens where everything does. A head whose
# job has a trigger rests until the trigger comes. Sort by `first_token` and look at the induction column.
#
# </details>
#
# <details><summary>4. Build the atlas of another model and find the twin of your favourite head.</summary>
#
# `python -m helpers.atlas --model NAME --out atlases`, then `other = read_atlas("atlases/NAME.parquet")` (from
# `helpers.atlas.table`) and `most_similar(atlas, other, layer, head, count=5)`. With two measured atlases all scores
# count, not only the published ones.
#
# </details>
