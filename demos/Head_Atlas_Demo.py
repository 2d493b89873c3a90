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
import torch
from jaxtyping import Float
from torch import Tensor

from helpers.atlas.attention import pattern_samples
from helpers.atlas.build import Settings, build_atlas, load_or_build
from helpers.atlas.inputs import passages
from helpers.atlas.published import published_atlas
from helpers.atlas.questions import (
    KINDS,
    heads_of_kind,
    is_known,
    most_similar,
    rank_of,
    relative_depth,
)
from helpers.atlas.scores import describe
from helpers.atlas.views import head_table, score_table, sortable_table
from helpers.head_scores import Head, top_heads
from helpers.ioi import reference_prompts
from helpers.models import load_model
from helpers.plotting import attention_patterns, head_names, imshow, line, scatter
from helpers.reference import beside_published
from helpers.wording import say

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
say(
    f"{atlas.info['model']}: {len(atlas.table)} heads in {atlas.info['n_layers']} layers,"
    f" {len(atlas.scores)} scores, {'stored' if was_stored else 'measured just now'}"
)
for score, reason in atlas.info["unavailable"].items():
    say(f"  not to be had for this model: {score} ({reason})")

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
for score in again.scores:
    combined = (again.error(score) ** 2 + atlas.error(score) ** 2).sqrt().clamp(min=1e-4)
    apart = (again.score(score) - atlas.score(score)).abs() / combined
    print(f"{score:18} {(apart < 2).float().mean():6.1%} of heads within two errors")

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
    scores = [score for score in scores if score in atlas.scores]
    imshow(
        torch.stack([atlas.score(score) for score in scores]),
        title=title,
        x="head",
        y="layer",
        y_labels=[f"L{layer}" for layer in range(atlas.info["n_layers"])],
        facet_labels=scores,
        names=head_names(atlas.info["n_layers"], atlas.info["n_heads"]),
        value_name=value_name,
        value_range=limits,
        scale="diverging" if limits[0] < 0 else "sequential",
        annotate=3,
    )
    for score in scores:
        values = atlas.score(score)
        top = ", ".join(f"{h.name} {h.value:.3f}" for h in top_heads(values, 3))
        low = top_heads(values, 1, smallest=True)[0]
        lowest = f"   lowest: {low.name} {low.value:.3f}" if limits[0] < 0 else ""
        print(f"{score:18} null {atlas.null(score):.3f}   top: {top}{lowest}")


maps(
    ["previous_token", "duplicate_token", "induction", "prefix_matching", "prefix_copying"],
    "On random tokens that repeat",
    "share",
    (0, 1),
)

# %%
maps(
    ["first_token", "self_attention", "local_window", "entropy"],
    "On text: where attention goes",
    "share",
    (0, 1),
)

# %% tags=["thumbnail"]
maps(
    ["ov_eigenvalue", "copying_eigenvalue", "copying_rank", "qk_same_token"],
    "Circuits: copying (blue) and suppression (red); matching a token with itself",
    "score",
    (-1, 1),
)

# %%
maps(
    [
        "copying_top5",
        "suppression_top5",
        "ioi_attention_io",
        "ioi_attention_s1",
        "ioi_attention_s2",
    ],
    "A token in the top five, raised or lowered; attention in the IOI task",
    "share",
    (0, 1),
)

# %% [markdown]
# The last three are effects, two of them in logits and one as the part of the logit difference that patching restores.
# Colours end at one; hover for what lies beyond.

# %%
maps(
    ["induction_logit", "ioi_attribution", "ioi_patching"],
    "Effects: on the next repeated token, on the right name, and by patching",
    "effect",
    (-1, 1),
)


# %%
def mean_depth(heads: list[Head]) -> float:
    """Average relative depth, 0 for the first layer and 1 for the last."""
    return sum(relative_depth(atlas, head.layer) for head in heads) / len(heads)


print(f"{'kind':28} heads  mean depth (0 first layer, 1 last)")
for kind in KINDS:
    heads = heads_of_kind(atlas, kind)
    print(f"{kind:28} {len(heads):5}  {f'{mean_depth(heads):.3f}' if heads else '-'}")
everyone = [(row.layer, row.head) for row in atlas.table[["layer", "head"]].itertuples()]
nameless = [head for head in everyone if not is_known(atlas, *head)]
print(f"\nOf no kind at all: {len(nameless)} of {len(everyone)} heads.")

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
names = [name for row in head_names(atlas.info["n_layers"], atlas.info["n_heads"]) for name in row]
scatter(
    atlas.score("induction"),
    atlas.score("induction_logit"),
    names=names,
    title="Induction: where a head looks, and what it writes",
    x="attention to what followed the earlier copy",
    y="raises the logit of that token by",
    annotate=10,
)

# %%
lookers = top_heads(atlas.score("induction"), 5)
writers = top_heads(atlas.score("induction_logit"), 5)
for title, heads in [("look most", lookers), ("write most", writers)]:
    print(f"Heads that {title}:")
    for head in heads:
        looks = atlas.score("induction")[head[:2]].item()
        writes = atlas.score("induction_logit")[head[:2]].item()
        print(f"  {head.name:8} looks {looks:6.3f}  writes {writes:+7.3f} logits")
both = {head[:2] for head in lookers} & {head[:2] for head in writers}
say(
    f"In both lists: {', '.join(f'L{layer}H{head}' for layer, head in sorted(both)) or 'none'} of"
    " five."
)

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
scatter(
    atlas.score("ov_eigenvalue"),
    atlas.score("copying_eigenvalue"),
    names=names,
    title="Copying by eigenvalues, on plain embeddings and on what heads read (dotted: the same)",
    x="on plain embeddings (ov_eigenvalue)",
    y="after the first block (copying_eigenvalue)",
    diagonal=True,
    annotate=0,
)


# %%
def correlation(one: str, other: str) -> float:
    """Between two scores, over heads."""
    return torch.corrcoef(torch.stack([atlas.score(one).flatten(), atlas.score(other).flatten()]))[
        0, 1
    ].item()


by_formula = {s: correlation(s, "copying_rank") for s in ("ov_eigenvalue", "copying_eigenvalue")}
for score, value in by_formula.items():
    extreme = int((atlas.score(score).abs() > 0.9).sum())
    print(f"{score:18} correlates {value:+.3f} with the rank; beyond ±0.9: {extreme} heads")
print("They disagree most about:")
for head in top_heads((atlas.score("ov_eigenvalue") - atlas.score("copying_eigenvalue")).abs(), 4):
    textbook, read, rank = (
        atlas.score(s)[head[:2]].item()
        for s in ("ov_eigenvalue", "copying_eigenvalue", "copying_rank")
    )
    print(f"  {head.name:8} plain {textbook:+.3f}, as read {read:+.3f}, by rank {rank:+.3f}")
if max(by_formula.values()) - min(by_formula.values()) > 0.1:
    print(f"Closer to what heads do with tokens here: {max(by_formula, key=by_formula.get)}.")
else:
    print("The two formulas are about equally close to what heads do with tokens here.")

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
    for kind, head in zip(kinds, heads):
        counts = "" if heads_of_kind(atlas, kind) else " (too weak to be called so)"
        error = atlas.error(KINDS[kind].score)[head[:2]].item()
        print(f"{kind:28} {head.name:8} {head.value:+.3f} ± {error:.3f}{counts}")


show_kinds(
    ["previous token", "duplicate token", "induction"],
    cache,
    tokens,
    "Heads that follow position and repetition",
)

# %%
show_kinds(
    ["rests on the first token", "looks at itself", "spreads its attention"],
    cache,
    tokens,
    "Heads that look for nothing in particular",
)

# %%
show_kinds(
    ["copies", "suppresses", "matches a token with itself"],
    cache,
    tokens,
    "Heads told by their circuits",
)

# %% [markdown]
# And in the task, on one of its prompts:

# %%
prompts = reference_prompts(model)
_, task_cache = model.run_with_cache(
    prompts.tokens[:1], names_filter=lambda name: name.endswith("hook_pattern")
)
show_kinds(
    ["favours the right name", "favours the wrong name"],
    task_cache,
    prompts.tokens,
    "In the task: heads that favour the right name and the wrong one",
)
right, wrong = prompts.answers[0]
print(f"\nprompt: {prompts.prompts[0]} … right:{right}, wrong:{wrong}")

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
published = published_atlas()
shared_kinds = [kind for kind in KINDS if KINDS[kind].score in published.scores]
rows = {}
for kind in shared_kinds:
    found = {one.info["model"]: heads_of_kind(one, kind) for one in (atlas, published)}
    ours, theirs = found.values()
    rows[f"{kind}: heads"] = (len(ours), len(theirs))
    rows[f"{kind}: part of all heads"] = (
        len(ours) / len(atlas.table),
        len(theirs) / len(published.table),
    )
    depths = [
        sum(relative_depth(one, head.layer) for head in heads) / len(heads) if heads else "-"
        for one, heads in ((atlas, ours), (published, theirs))
    ]
    rows[f"{kind}: mean relative depth"] = tuple(depths)
print(beside_published(rows, atlas.info["model"]))

# %%
STAGES = 6


def by_depth(one, score: str) -> list[float]:
    """The strongest head's score in each sixth of the layers."""
    layers = one.score(score).max(1).values
    return [part.max().item() for part in layers.tensor_split(STAGES) if len(part)]


series = {
    f"{score}, {who}": by_depth(one, score)
    for score in ("previous_token", "induction")
    for one, who in ((atlas, "this run"), (published, "GPT-2 small (published)"))
}
shortest = min(len(values) for values in series.values())
line(
    {name: values[:shortest] for name, values in series.items()},
    title="The strongest head of each sixth of the model",
    x="sixth of the layers, first to last",
    y="score",
    x_labels=[f"{i + 1} of {STAGES}" for i in range(shortest)],
)
for score in ("previous_token", "induction"):
    peaks = {
        one.info["model"]: relative_depth(one, top_heads(one.score(score), 1)[0].layer)
        for one in (atlas, published)
    }
    print(
        f"{score}: strongest at relative depth",
        ", ".join(f"{d:.3f} ({m})" for m, d in peaks.items()),
    )

# %% [markdown]
# *What it does not show.* Thresholds are a choice, and the counts move with them. Nor does "the same kind" mean "the
# same job": that is decided by who listens.

# %% [markdown]
# ## 8. Questions in one line
#
# **Which heads are induction heads here?**

# %%
found = heads_of_kind(atlas, "induction")
say(", ".join(f"{head.name}\N{NO-BREAK SPACE}{head.value:.3f}" for head in found))

# %% [markdown]
# **Is this head anything known?** Ask it of the heads that matter most for the task when they are patched.

# %%
important = top_heads(atlas.score("ioi_patching").abs(), 6)
for head in important:
    kinds = ", ".join(is_known(atlas, *head[:2])) or "nothing known"
    effect = atlas.score("ioi_patching")[head[:2]].item()
    print(f"{head.name:8} patching {effect:+.3f}  {kinds}")

# %% [markdown]
# **Which head of the other model is most like it?** By profile: each score as a part of the strongest head's, over the
# five scores that both atlases have. Distance 0 is the same profile. None of the five looks into the OV circuit, so a
# head that copies and one that suppresses can pass for twins.

# %%
for head in [*heads_of_kind(atlas, "induction")[:3], *important[:4]]:
    twin = most_similar(atlas, published, *head[:2])[0]
    role = published.table.set_index("name").loc[twin.name, "role"] or "no role in the paper"
    print(f"{head.name:8} -> {twin.name:8} of GPT-2 small, distance {twin.value:.3f}: {role}")

# %% [markdown]
# **And in this model itself: which two heads are most alike?** Over all scores, among the heads that are of some kind.

# %%
known = [head for head in everyone if is_known(atlas, *head)] or everyone
pairs = [(Head(*head, 0.0), most_similar(atlas, atlas, *head)[0]) for head in known]
head, twin = min(pairs, key=lambda pair: pair[1].value)
say(
    f"{head.name} and {twin.name}, distance {twin.value:.3f}:"
    f" {', '.join(is_known(atlas, *head[:2])) or 'no kind'}"
)

# %% [markdown]
# ## 9. Heads that contradict themselves
#
# Kinds that should go together, and heads on which they do not. Each line is a question worth an afternoon.

# %%
null = atlas.null("ioi_attention_io")
table = atlas.table
contradictions = {
    "look like induction heads and do not write the token": table.query(
        "induction > 0.4 and induction_logit < 0.02"
    ),
    "write the repeated token and hardly look at it": table.query(
        "induction_logit > 0.2 and induction < 0.2"
    ),
    "favour the right name and hardly look at it": table[
        (table["ioi_attribution"] > 0.1) & (table["ioi_attention_io"] < 2 * null)
    ],
    "suppress what they look at and favour the right name": table.query(
        "copying_eigenvalue < -0.5 and ioi_attribution > 0.1"
    ),
    "copy what they look at and favour the wrong name": table.query(
        "copying_eigenvalue > 0.5 and ioi_attribution < -0.1"
    ),
    "match a token with its own kind and never look at a copy of it": table.query(
        "qk_same_token > 0.9 and duplicate_token < 0.02"
    ),
    "copying on plain embeddings, suppression on real ones": table.query(
        "ov_eigenvalue > 0.3 and copying_eigenvalue < -0.5"
    ),
}
for what, heads in contradictions.items():
    say(f"{what}: {', '.join(heads['name'].head(8)) or 'none'}{' …' if len(heads) > 8 else ''}")

# %% [markdown]
# A head that favours the right name by *suppressing* the wrong one does, at the output, what a name mover does by
# copying. The same number in one column, opposite signs in another: that is why there is more than one column.

# %%
writer = strongest("favours the right name")
card = {
    score: (atlas.score(score)[writer[:2]].item(), rank_of(atlas, score, *writer[:2]))
    for score in (
        "ioi_attribution",
        "ioi_attention_io",
        "ioi_attention_s2",
        "copying_eigenvalue",
        "suppression_top5",
    )
}
print(f"{writer.name}, the head that favours the right name most:")
for score, (value, rank) in card.items():
    print(f"  {score:18} {value:+.3f}   rank {rank} of {len(everyone)}")
if (
    card["copying_eigenvalue"][0] < -0.5
    and card["ioi_attention_s2"][0] > card["ioi_attention_io"][0]
):
    print("It looks at the repeated name and pushes it down. It does not move the right one.")
elif (
    card["copying_eigenvalue"][0] > 0.5
    and card["ioi_attention_io"][0] > card["ioi_attention_s2"][0]
):
    print("It looks at the right name and copies it: a name mover in the plain sense.")
else:
    say(
        "It fits neither story: not a plain copier of the right name, nor a plain suppressor of the"
        " other."
    )

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


samples = pattern_samples(model, passages(model), {"two_back": two_back}, progress=False)
measured = samples["two_back"]
for head in top_heads(measured.value, 5):
    previous = atlas.score("previous_token")[head[:2]].item()
    error = measured.error[head[:2]]
    print(f"{head.name:8} {head.value:.3f} ± {error:.3f}   previous token: {previous:.3f}")
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
