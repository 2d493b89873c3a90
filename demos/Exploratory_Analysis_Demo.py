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
# # Find a circuit in an afternoon: exploratory analysis of Indirect Object Identification
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ioi-exploration-demos/ioi-exploration-demos/blob/main/demos/Exploratory_Analysis_Demo.ipynb)
#
# We take a language model that solves a small task, and ask it one question after another until we can say which
# parts of it do the work. Every question is a few lines of code and one figure.
#
# **What you will do.** Choose a task and a number that measures it; trace that number back to layers, then to single
# attention heads; look at where those heads attend, and whether they are of a kind that is already known. Then interfere:
# patch activations, take heads apart, follow who speaks to whom, draw the circuit, and take its strongest part away.
#
# **What you will learn.** How to keep the loop short: *question, what I expect if I am right or wrong, a short cell,
# a figure, what it shows, what it does not show.*
#
# **What you need.** A little Python and PyTorch, and a rough idea of what a transformer is. If "residual stream" or
# "attention head" mean nothing to you yet, read
# [A Mathematical Framework for Transformer Circuits](https://transformer-circuits.pub/2021/framework/index.html)
# first. A laptop is enough: on two cores the smaller model takes about two minutes and three gigabytes, most of the time
# in the sections on patching (10 to 12), where each sweep replaces hundreds of forward passes.
#
# **How to read it.** The text is written for any model that the setup below can load. It is about GPT-2 small, whose
# circuit for this task was found in [Interpretability in the Wild](https://arxiv.org/abs/2211.00593) (Wang et al.,
# 2022), and it runs on a smaller, freely packaged model where GPT-2 small cannot be had. So the prose names no head
# and no measurement: **everything said about a particular run is printed by the cell that measured it**, and GPT-2
# small's published figures stand beside it. Folded asides can be skipped; those marked ★ are worth opening at a
# first reading.

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
from fancy_einsum import einsum
from jaxtyping import Float, Int
from torch import Tensor

from helpers.findings import exploratory as findings
from helpers.ioi.record import beside_published, published_heatmap, published_line, published_value
from helpers.logit_diff import LogitDiff, residual_stack_to_logit_diff
from helpers.models import load_model
from helpers.plotting import attention_patterns, head_map, line, position_map, scatter
from helpers.tables import head_table, show_table
from helpers.wording import listing, say

# %% [markdown]
# We only ever look at a finished model, so nothing needs a gradient. Switching them off saves memory and time.
#
# **What to copy.** Five things in here stand on their own, for a model and prompts of yours. Each needs the two cells
# around this text and the cells that begin with:
#
# | to get | copy the cells with | and bring |
# | --- | --- | --- |
# | the logit difference | `def logit_diff` | `model`, `tokens`, `corrupted_tokens`, `answer_tokens` |
# | what each head adds to it | `logits, cache`, `right_direction`, `head_outputs =` | `model`, `tokens`, `answer_tokens` |
# | head scores | `induction_score =`, `scores =` | `model` |
# | a heatmap of activation patching | `def logit_diff`, `def restored`, `def sweep` | `model`, `tokens`, `corrupted_tokens`, `answer_tokens`, `position_labels` |
# | path patching into a head | `def logit_diff`, `def restored`, `def path_effects` | `model`, `tokens`, `corrupted_tokens`, `answer_tokens` |
#
# `tokens` and `corrupted_tokens` are `[prompt, position]`, of one length, and `answer_tokens` is `[prompt, 2]`: the right
# token and the wrong one. `path_effects((layer, head))` then gives what every earlier head tells that one.

# %%
_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## 2. What we are about to do, and to what
#
# **Exploratory** analysis is what you do before you have a hypothesis worth defending. You look at a model from many
# sides with cheap tools, each of which can mislead, and you trust what several of them agree on. It is a way to
# *find* hypotheses. Proving one takes other tools (many prompts, causal tests, comparisons with chance), and the
# later sections start on that.
#
# **The task** is Indirect Object Identification (IOI):
#
# > When John and Mary went to the shops, John gave the bag to …
#
# A reader continues with *Mary*: of the two names, the one that was not repeated. The repeated name is the *subject*
# (S, here John), and the right answer the *indirect object* (IO, here Mary).
#
# Why this task? The model either does it or does not, with one token, so there is a number to follow. It cannot be
# done by looking at one word: some part must notice that a name is repeated, some part must use that to choose, and
# information must travel between positions. And there is an easy, wrong alternative (the other name), which serves
# as a yardstick: whatever makes *any* name likely cancels when we compare the two.

# %% [markdown]
# ### Load the model
#
# `load_model` rewrites the weights so that the parts are easier to tell apart, without changing what the model
# computes:
#
# - **Layer norm folding.** The learned scale (and bias) of each layer norm moves into the next weight matrix. What
#   remains of the layer norm only centres and rescales.
# - **Centred writing weights.** A layer norm that subtracts the mean never sees the mean of what is written to the
#   residual stream, so that direction is removed from every matrix that writes to it. (Models with RMSNorm subtract
#   no mean, and are left alone here.)
# - **Centred unembedding.** Adding one number to all logits changes no probability; the unembedding is shifted so
#   that logits average to zero.
# - **Value biases** move into the attention layer's output bias, so that a head's output comes from its own weights.
# - **Refactored attention matrices**, where the architecture allows it: a head's queries and keys only ever meet as a
#   product, and so do values and outputs; each product is split again along its singular directions.
#
# <details><summary>★ Why is one allowed to do this?</summary>
#
# Each step uses a freedom that the model's own output does not see: two matrices that are only ever multiplied may be
# split differently, a direction that is always subtracted may be removed, a constant may be added to all logits.
# Probabilities stay as they were. What changes is how intermediate values read: a vector in the residual stream can
# afterwards be held against the unembedding directly, without asking what a layer norm's weights would do to it.
#
# </details>

# %%
model = load_model()
n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
print(f"{model.cfg.model_name}: {n_layers} layers of {n_heads} attention heads")
print(f"residual stream of {model.cfg.d_model}, vocabulary of {model.cfg.d_vocab} tokens")

# %% [markdown]
# ## 3. Can the model do the task?
#
# **Question.** Is there anything to explain? If the model does not do the task, the rest is a waste of time, and this
# is the cheapest place to find out.
#
# **What we would expect.** If it can, the right name is the most likely next token, or close to it, and clearly ahead
# of the other name. If not, we would see both names at about the same rank.

# %%
from transformer_lens.utilities import test_prompt

question = "After John and Mary went to the store, John gave a bottle of milk to"
test_prompt(question, " Mary", model, prepend_bos=True)

# %% [markdown]
# Look at what else is on the list. Are the rivals the other name, or words that could follow grammatically? A model that
# knows that somebody is given something ranks both kinds high, and has to know more to put one name above the other.

# %% [markdown]
# ### Eight prompts instead of one
#
# One prompt can be lucky. We use four sentence frames with two names each, and each frame twice, so that each name is
# the right answer once. That balance matters: a model that simply likes "Mary" better than "John" would gain on one
# prompt what it loses on the other.

# %%
from helpers.ioi.prompts import reference_prompts

prompts = reference_prompts(model)
show_table(pd.DataFrame(prompts.answers, prompts.prompts, ["right", "wrong"]))

# %% [markdown]
# <details><summary>★ Tokens are not words</summary>
#
# A model reads tokens: pieces of text from a fixed list. `" Mary"` with its leading space is another token than
# `"Mary"`, and a rarer name may be several tokens. We compare the logits of two *single* tokens, so a name that is
# several would spoil the comparison; `reference_prompts` refuses such names and says which. The beginning-of-sequence
# token in front matters too. Attention weights sum to one, so a head that has nothing to do must still look
# somewhere, and the first position is where many heads rest.
#
# *Exercise.* Find a first name that is a single token with its leading space and several without.
#
# <details><summary>Answer</summary>
#
# Try a handful: `for name in ["Mary", "Martin", "Sid", "Amy", "Priya"]: print(model.to_str_tokens(name,
# prepend_bos=False), model.to_str_tokens(" " + name, prepend_bos=False))`. In English text a name mostly follows a
# space, so tokenizers learn that form first; the bare form often has to be put together from pieces. A sentence that
# *begins* with the name then has more tokens than you counted.
#
# </details></details>
#
# <details><summary>The equal-length gotcha</summary>
#
# The prompts are of equal length in tokens, so that position 10 means the same in all of them, and position −1 is the
# last word everywhere. With prompts of unequal length, padding on the right would put padding there, and logits at
# position −1 would silently mean nothing. The way out is to pad on the left and to tell the model which tokens are
# padding: `model(texts, padding_side="left")` does both. (Do not build the mask as "tokens that are not the padding
# token": GPT-2 pads with the very token that begins a text.) Position
# −1 is then the last word again, but earlier positions no longer line up, so figures by position need equal lengths
# all the same. `reference_prompts` refuses unequal ones.
#
# </details>

# %%
tokens, corrupted_tokens = prompts.tokens, prompts.corrupted_tokens  # [prompt, position]
answer_tokens = prompts.answer_tokens  # [prompt, 2]: right, wrong
position_labels = prompts.position_labels
for number, row in enumerate(tokens):
    print(number, "│".join(model.to_str_tokens(row)))

# %% [markdown]
# Now run the model once and keep everything. `run_with_cache` returns the logits and a dictionary of all intermediate
# activations, addressed by name and layer.

# %%
logits, cache = model.run_with_cache(tokens)
print(f"logits: {list(logits.shape)} [prompt, position, token]")
print(f"attention pattern of layer 0: {list(cache['pattern', 0].shape)} [prompt, head, from, to]")

# %% [markdown]
# ## 4. A number to follow
#
# **The logit difference**: at the last token, the logit of the right name minus that of the wrong one. We will
# measure everything with it, so it is worth being picky about the choice:
#
# - It is **blind to what we do not care about**. Whatever makes names likely in general raises both logits.
# - It is a **log-odds**: the difference of two logits is the log of the ratio of their probabilities, so one unit is
#   a factor of e, and zero means the model cannot decide.
# - It is **linear in the final residual stream**, up to layer norm. A sum of parts has a sum of logit differences. A
#   probability has no such property.


# %%
def logit_diff(
    logits: Float[Tensor, "batch pos vocab"], answer_tokens: Int[Tensor, "batch 2"]
) -> Float[Tensor, " batch"]:
    """Logit of the right answer minus logit of the wrong one, at the last token."""
    right, wrong = logits[:, -1].gather(-1, answer_tokens).unbind(-1)
    return right - wrong


clean_logit_diff = logit_diff(model(tokens), answer_tokens).mean()
corrupted_logit_diff = logit_diff(model(corrupted_tokens), answer_tokens).mean()
print(f"clean {clean_logit_diff:+.2f}, corrupted {corrupted_logit_diff:+.2f}")

# %%
per_prompt = logit_diff(logits, answer_tokens).tolist()
published_diffs = published_value("logit_diff_per_prompt")
rows = dict(zip(prompts.prompts, zip(per_prompt, published_diffs)))
rows["average"] = clean_logit_diff.item(), published_value("logit_diff_average")
show_table(beside_published(rows, model.cfg.model_name))
say(findings.task(per_prompt))

# %% [markdown]
# **Is the yardstick right?** A metric deserves a test before it is used. Give the model the *corrupted* prompts, in
# which the two names of each pair trade roles, and ask about the old answers: the difference must turn into its
# negative, since the same eight prompts are asked the opposite question. Rescaled so that the corrupted run is 0 and
# the clean run is 1, the metric is calibrated by construction; we assert both.


# %%
def restored(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A logit difference on the way from the corrupted run, 0, to the clean run, 1."""
    return (value - corrupted_logit_diff) / (clean_logit_diff - corrupted_logit_diff)


torch.testing.assert_close(restored(clean_logit_diff).item(), 1.0)
torch.testing.assert_close(restored(corrupted_logit_diff).item(), 0.0)

# %%
torch.testing.assert_close(corrupted_logit_diff, -clean_logit_diff, atol=1e-3, rtol=0)

# %% [markdown]
# *What this does not show.* That the model does the task on other sentences, or for the reason we imagine. Eight
# prompts are enough to look around, and not enough to be sure.

# %% [markdown]
# ## 5. Think before you look
#
# It pays to write down guesses now, while there is no figure to fall in love with. How could a transformer do this?
#
# - **Hypothesis A: inhibit the repeated name.** Something notices that a name occurs twice; that information reaches
#   the last position; something there copies names from the context to the output, but *not* the one marked as
#   repeated.
# - **Hypothesis B: favour the lonely name.** Something marks a name that has occurred once and not again, and the last
#   position looks for that mark.
#
# They sound alike, but they put the decisive information in different places:
#
# | | A: inhibit the repeated | B: favour the lonely |
# | --- | --- | --- |
# | where the decision is made | at the *second* mention of the subject, where a repetition can first be noticed | at or after the *indirect object*, once it is clear that it is not repeated |
# | what reaches the last position | "not this one" | "this one" |
# | heads we would look for | ones that attend from a token to its earlier copy | ones that attend from the end to the lonely name and depend on a mark there |
#
# A model reads left to right: at the first mention of Mary nothing yet says that she will stay alone. That makes B
# awkward for a transformer, and A the better bet. But it is a bet.
#
# <details><summary>★ The trap of dogmatism</summary>
#
# Once a hypothesis has been written down it starts to feel true, and figures begin to "fit". Three habits help. Say
# beforehand what the figure would look like if you were wrong. Keep a list of what your story does not explain. And
# prefer experiments whose outcome you would bet against somebody on. A third possibility is always that the model does
# something you did not think of, and in some models part of it is true.
#
# </details>

# %% [markdown]
# ## 6. Direct logit attribution: who writes the answer?
#
# A transformer's residual stream is a running sum: embeddings, every attention head and every MLP *add* a vector to
# it, and the logits are read off the total. The logit difference is therefore (almost) a sum of one term for each
# component: the projection of what it wrote on the direction "right name's unembedding minus wrong name's
# unembedding". This is **direct logit attribution**.

# %%
right_direction, wrong_direction = model.tokens_to_residual_directions(answer_tokens).unbind(1)
directions = right_direction - wrong_direction
print(f"one direction a prompt: {list(directions.shape)} [prompt, d_model]")

# %% [markdown]
# **A check before anything rests on it.** The final residual stream, through the last layer norm and on to these
# directions, must give back the logit difference that we measured. If this failed, everything below would be wrong.

# %%
final_residual = cache["resid_post", -1][:, -1]  # [prompt, d_model]
scaled_residual = cache.apply_ln_to_stack(final_residual[None], layer=-1, pos_slice=-1)[0]
by_hand = einsum("batch d_model, batch d_model -> batch", scaled_residual, directions).mean()
torch.testing.assert_close(by_hand, clean_logit_diff, atol=1e-3, rtol=1e-4)
print(f"from the logits: {clean_logit_diff:.4f}, by projecting the residual stream: {by_hand:.4f}")

# %% [markdown]
# <details><summary>★ What about the layer norm?</summary>
#
# The last layer norm divides by the size of the *whole* residual stream, which is not linear. We freeze that size at
# what it was in this run: then the rest is linear, and the parts sum exactly to the total. The approximation lies in
# what we then say: "this head adds so much" takes it for granted that the scale would stay the same without the head.
# One head out of many changes it little, but not by nothing.
#
# And a word on averages: a model with a bias in its unembedding adds a constant for each token, which belongs to no
# component. Since each name is right as often as it is wrong, it cancels in the average.
#
# </details>

# %% [markdown]
# `residual_stack_to_logit_diff` from the helpers is those three lines for a whole stack of vectors at once: apply the
# frozen layer norm, project, average over prompts.

# %% [markdown]
# ## 7. Zooming in: layers, then heads
#
# ### The logit lens: *when* does the answer appear?
#
# **Question.** At which depth could one already read the answer off the residual stream?
#
# **What we would expect.** If the answer is assembled bit by bit, the line climbs all the way. If a few components
# write it, it jumps. If it was there in the embeddings, it would start high. (It cannot be: the last token is the same in
# all prompts, and the two prompts of a pair ask for opposite answers.) In the labels, the number is the layer's; `pre` is
# the stream before it, `mid` between its attention and its MLP.

# %%
accumulated_residual, lens_labels = cache.accumulated_resid(
    layer=-1, incl_mid=True, pos_slice=-1, return_labels=True
)
lens = residual_stack_to_logit_diff(accumulated_residual, cache, directions)
title = "Logit lens: the logit difference one would read off the residual stream at the last token"
x = "residual stream before (pre) or inside (mid) a layer"
line(lens, title=title, x=x, y="logit difference", x_labels=lens_labels, annotate=3)

# %%
steps = pd.Series(lens.tolist(), lens_labels).diff()
published_steps = pd.Series(published_line("logit_lens")).diff()
rows = {
    "largest rise at": (steps.idxmax(), published_steps.idxmax()),
    "its size": (steps.max(), published_steps.max()),
}
show_table(beside_published(rows, model.cfg.model_name))
before_rise = lens[: lens_labels.index(steps.idxmax())].abs().max().item()
say(findings.lens(rise_at=steps.idxmax(), before=before_rise))

# %% [markdown]
# *What it does not show.* A flat line does not mean that nothing happens. The work of noticing the repetition may be
# done early and elsewhere; it only becomes *readable in this direction at this position* late. And every point is read
# with the *final* layer norm's scale, so that differences between points are what was added; a lens that normalises each
# point by its own size would draw the early part larger.

# %% [markdown]
# ### Layer by layer: *which* layers write it?
#
# **Question.** How much of the total does each attention layer and each MLP add?
#
# **What we would expect.** Moving information between positions is what attention is for, and the task is about
# moving a name. If hypothesis A (or B) is on the right track, attention layers should dominate. If MLPs did, we would
# have to rethink.

# %%
components, component_labels = cache.decompose_resid(layer=-1, pos_slice=-1, return_labels=True)
by_component = residual_stack_to_logit_diff(components, cache, directions)
torch.testing.assert_close(by_component.sum(), clean_logit_diff, atol=1e-3, rtol=1e-4)

# %%
added = pd.Series(by_component.tolist(), component_labels)
attention = added[[f"{layer}_attn_out" for layer in range(n_layers)]].tolist()
mlps = added[[f"{layer}_mlp_out" for layer in range(n_layers)]].tolist()
line(
    {"attention": attention, "MLP": mlps},
    title="What each layer's attention and MLP add to the logit difference",
    x="layer",
    y="logit difference added",
    x_labels=[f"L{layer}" for layer in range(n_layers)],
    annotate=2,
    annotate_by="size",
)

# %%
both = added, pd.Series(published_line("layer_attribution"))
rows = {
    f"all {kind}": [part[part.index.str.endswith(kind)].sum() for part in both]
    for kind in ("attn_out", "mlp_out", "embed")
}
rows["everything"] = [part.sum() for part in both]
rows["largest component"] = [part.idxmax() for part in both]
rows["most negative component"] = [part.idxmin() for part in both]
show_table(beside_published(rows, model.cfg.model_name))

# %% [markdown]
# The most negative component deserves a thought: some layers push the *wrong* way, on purpose or by accident. We come
# back to this in the next figure.

# %% [markdown]
# ### Head by head
#
# **Question.** An attention layer is a set of heads that work independently and add up. Is it all of them, or a few?
#
# **What we would expect.** With a specialised circuit: a handful of heads far from zero, and a sea of white. With
# diffuse computation: pale colours everywhere.

# %% tags=["thumbnail"]
head_outputs = cache.stack_head_results(layer=-1, pos_slice=-1)  # [layer * head, prompt, d_model]
by_head = residual_stack_to_logit_diff(head_outputs, cache, directions)
by_head = by_head.reshape(model.cfg.n_layers, model.cfg.n_heads)
title = "What each attention head adds to the logit difference"
head_map(by_head, title=title, value_name="logit difference added", annotate=6)

# %%
from helpers.head_scores import Head, top_heads

positive_heads, negative_heads = top_heads(by_head, 3), top_heads(by_head, 3, smallest=True)
published_heads = published_heatmap("head_attribution")
published_negative = top_heads(published_heads, 3, smallest=True)
rows = {
    "for the answer": (listing(positive_heads), listing(top_heads(published_heads, 3))),
    "against it": (listing(negative_heads), listing(published_negative)),
}
show_table(beside_published(rows, model.cfg.model_name))
say(findings.concentration(by_head.abs().flatten().tolist()))

# %% [markdown]
# In GPT-2 small a few heads stand out, and some of the strongest ones *oppose* the answer. The paper calls the first kind
# **name movers** and the second **negative name movers**. Read off the lines above whether this run has both.
#
# *What it does not show.* Direct attribution sees only what is written straight to the output at the last position.
# A head that makes another head work (by noticing the repetition, say) can be indispensable and stay white here.
#
# <details><summary>Exercise: is it the right name up, or the wrong name down?</summary>
#
# The logit difference cannot tell "raises Mary" from "lowers John". Project the head outputs on the two answers'
# directions separately (`right_direction` and `wrong_direction`) and compare. The table in the next
# section does it for the heads that stand out: look there before you believe that every positive head *moves* the right
# name.
#
# </details>

# %% [markdown]
# ## 8. Where do these heads look?
#
# **Question.** A head's output is a mix of what it reads at the positions it attends to. Where do the heads that
# stand out attend, from the last token?
#
# **What we would expect.** If a positive head is a name mover in the plain sense, it attends to the indirect object
# and copies it. If it attends to the *subject* and still helps the right answer, then it must work differently: by
# pushing the subject down. Negative heads could attend to the right name and push that down.
#
# <details><summary>Attention is not information flow</summary>
#
# A head moves `value × attention`, and the value may be nearly nothing: much attention to the first token usually means
# "nothing to do". Nor is what stands at a position only about that position's token; by the middle of the model, the
# position of a name carries what other heads have written there.
#
# </details>


# %%
def show_attention(heads, title: str, prompt: int = 0) -> None:
    """Attention patterns of a few heads on one prompt."""
    attention_patterns(
        torch.stack([cache["pattern", head.layer][prompt, head.head] for head in heads]),
        tokens=model.to_str_tokens(tokens[prompt]),
        names=[head.name for head in heads],
        title=title,
    )


show_attention(positive_heads, "Attention of the heads that push most towards the right name")

# %%
show_attention(negative_heads, "Attention of the heads that push most towards the wrong name")

# %% [markdown]
# One prompt is an anecdote, so here is the same for all eight as numbers: how much of its attention each head gives,
# from the last token, to the indirect object (IO), to the first and second mention of the subject (S1, S2) and to the
# beginning of the sequence; and beside it the exercise from above, the head's own effect on the logit of the right
# name and on that of the wrong one. In words, a head *looks at* a name that gets more than twice what each position would
# get if all got the same.

# %%
from helpers.head_scores import attention_between

places = {**prompts.positions, "first": torch.zeros_like(prompts.positions["end"])}
on_right, on_wrong = (
    residual_stack_to_logit_diff(head_outputs, cache, direction).reshape(by_head.shape)
    for direction in (right_direction, wrong_direction)
)
torch.testing.assert_close(on_right - on_wrong, by_head, atol=1e-4, rtol=1e-4)
from_end = {name: attention_between(cache, places["end"], at) for name, at in places.items()}
columns = {f"attention to {name}": from_end[name] for name in ("IO", "S1", "S2", "first")}
columns |= {"effect on the right name": on_right, "on the wrong name": on_wrong}
standing_out = head_table(positive_heads + negative_heads, columns)
show_table(standing_out)

# %%
even_share = 1 / tokens.shape[1]  # of each position, for a head that looks at all alike
account = standing_out.apply(findings.looks_and_moves, axis="columns", even=even_share)
show_table(account.to_frame("from the last token it …"))
say(findings.name_movers(account))

# %% [markdown]
# In GPT-2 small, the published account is simple: the positive heads attend to the indirect object and copy it, the
# negative ones attend to it as well and push it down. Read the lines above for this run before carrying that account
# over. A head that looks at the *second mention of the subject* and lowers the wrong name is a different mechanism for
# the same end, closer to hypothesis A than the copying story is.
#
# *What would have falsified it.* If the heads with the strongest effect had attended to places that name nobody, the
# idea that the last step chooses among the names in the context would be in trouble. *What it does not show:* why a
# head looks where it looks. That is decided by what is written into its queries and keys, by earlier heads.

# %% [markdown]
# ## 9. Are these heads of a known kind?
#
# Three simple kinds of heads turn up in almost every language model. All three can be recognised on random tokens
# that repeat, where nothing but the repetition is there to be noticed:
#
# - a **previous-token head** attends to the token before;
# - a **duplicate-token head** attends from a token to its earlier copy;
# - an **induction head** attends from a token to what *followed* its earlier copy, and so can continue a repeated
#   sequence ([Olsson et al., 2022](https://transformer-circuits.pub/2022/in-context-learning-and-induction-heads/index.html)).
#
# Each attends along one diagonal of the attention pattern, so each score is an average over a diagonal: 1 for a head
# that does nothing else, close to 0 for one that does not do it at all. Here is the induction score as a hook; the
# scores for the other two differ in one number.

# %%
from helpers.head_scores import repeated_random_tokens

length = 100
repeated_tokens = repeated_random_tokens(model, batch=2, length=length, seed=0)
induction_score = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)


def induction_hook(pattern: Float[Tensor, "batch head dest src"], hook) -> None:
    """Average attention from each token to the one after its earlier copy."""
    to_after_copy = pattern.diagonal(-(length - 1), dim1=-2, dim2=-1)
    induction_score[hook.layer()] = to_after_copy.mean(dim=(0, -1)).float().cpu()


at_patterns = [(lambda name: name.endswith("hook_pattern"), induction_hook)]
_ = model.run_with_hooks(repeated_tokens, return_type=None, fwd_hooks=at_patterns)

# %%
from helpers.head_scores import attention_scores

scores = attention_scores(model, repeated_tokens)  # all three kinds, the same way
torch.testing.assert_close(scores["induction"], induction_score)
head_map(
    scores,
    title="How much each head is of a known kind (random tokens, repeated)",
    value_name="average attention on the diagonal",
    value_range=(0, 1),
    scale="sequential",
)

# %%
published_scores = {kind: published_heatmap(f"score_{kind.replace(' ', '_')}") for kind in scores}
both = scores, published_scores
rows = {f"{kind}: strongest": [listing(top_heads(s[kind], 3)) for s in both] for kind in scores}
rows |= {f"{kind}: above 0.5": [int((s[kind] > 0.5).sum()) for s in both] for kind in scores}
show_table(beside_published(rows, model.cfg.model_name))


# %%
def known_kind(head) -> str:
    """The kind of a head, if more than half of its attention is of that kind."""
    return findings.known_kind({kind: score[head[:2]].item() for kind, score in scores.items()})


table = head_table(positive_heads + negative_heads, {"added to the logit difference": by_head})
table["known kind"] = [known_kind(head) for head in positive_heads + negative_heads]
show_table(table, signed=True)

# %% [markdown]
# **What we see** is printed above: how many heads of each kind there are, and whether they explain the heads that write the
# answer. In the published account of GPT-2 small they are a *different* population: the early and middle
# layers notice the repetition, the late ones write the answer.
#
# *What it does not show.* That a head which does induction on random tokens does induction *here*. A head can have
# several jobs. To know what it does on this task, we have to interfere with it, and that is what activation patching
# is for.

# %% [markdown]
# ## 10. Activation patching: from "who writes" to "what matters"
#
# Everything so far was *reading*: we looked at what components write, and where heads look. Reading cannot tell a part
# that the model uses from a part that merely correlates with the answer. For that one has to *interfere*.
#
# **Activation patching** runs the model on the corrupted prompts (where the wrong name is right), but replaces one
# activation by its value from the clean run. If the logit difference then moves towards the clean value, that
# activation carries information that the model uses: patched into the opposite situation, it argues for its own side.
# We use the normalised metric: **0 means nothing was restored, 1 means that this one activation brings back the whole
# difference**.
#
# The two runs differ in a single token, the second mention of the subject. Whatever matters must start there and must
# end at the last token, where the prediction is read.
#
# Here is one patch as a hook, and the two cases in which we know the answer beforehand. Patching what is the same in
# both runs must do nothing. Patching the residual stream *before the first layer at the changed token* makes the
# corrupted prompt clean, and must restore everything.


# %%
def patched(layer: int, position: int) -> Float[Tensor, ""]:
    """What the corrupted run restores with one vector of the residual stream from the clean run."""

    def patch(resid: Float[Tensor, "batch pos d_model"], hook) -> Tensor:
        resid[:, position] = cache["resid_pre", layer][:, position]
        return resid

    hooks = [(f"blocks.{layer}.hook_resid_pre", patch)]
    patched_logits = model.run_with_hooks(corrupted_tokens, fwd_hooks=hooks)
    return restored(logit_diff(patched_logits, answer_tokens).mean())


# %%
[changed_position] = prompts.changed_positions
no_op, full = patched(0, changed_position - 1), patched(0, changed_position)
torch.testing.assert_close(no_op.item(), 0.0, atol=1e-4, rtol=0)
torch.testing.assert_close(full.item(), 1.0, atol=1e-4, rtol=0)
print(f"the runs differ at {position_labels[changed_position]!r}")
print(f"patched where they are the same: {no_op:.3f}; where they differ: {full:.3f}")

# %% [markdown]
# ### Every layer, every position
#
# **Question.** Where is the decisive information, layer by layer?
#
# **What we would expect.** Under hypothesis A, the information sits at the second mention of the subject for a while
# and then jumps to the end, moved there by attention. Under hypothesis B it would also light up at the *indirect
# object*, whose position is before the changed token: that is impossible to see here, because a causal model's
# activations there are identical in both runs. This is a limit of this pair of prompts, and worth remembering.
#
# One patch is one forward pass, and there are layers × positions of them. `patch_sweep` gives the same numbers without
# computing anything twice: positions before the changed token need no run, a patch in one layer changes nothing below
# it, and only two logits are read at the end.
#
# <details><summary>How can it be exact and fast?</summary>
#
# In a causal model the activations before the first differing token are identical in both runs, so they are computed
# once and kept as keys and values. A patch in a layer leaves everything below untouched, so all patches climb the model
# *together*: the batch starts with the patches of the lowest layer and gains a copy of the unpatched run for each patch
# in each further layer. Nothing is approximated; the cell after the figure compares one value with the plain hook above.
#
# </details>

# %%
from helpers.patching import patch_sweep


def sweep(site: str) -> Float[Tensor, "layer pos"] | Float[Tensor, "layer head"]:
    """Clean activations into the corrupted run, one at a time."""
    metric = LogitDiff(answer_tokens)
    return restored(patch_sweep(model, corrupted_tokens, tokens, site, metric))


resid_patching = sweep("resid_pre")
title = "Where the answer stands: patching the residual stream, clean into corrupted"
colours = {"value_name": "logit difference restored", "value_range": (-1, 1)}
position_map(resid_patching, position_labels, title=title, y="before layer", **colours)

# %%
by_sweep = resid_patching[n_layers // 2, changed_position]
by_hook = patched(n_layers // 2, changed_position)
torch.testing.assert_close(by_sweep, by_hook, atol=1e-3, rtol=1e-3)
print(f"The sweep gives {by_sweep:.3f}, the hook {by_hook:.3f}.")

# %%
both = resid_patching, published_heatmap("patch_resid_pre")
changed = [int(values[0].argmax()) for values in both]  # restores all before the first layer
gone = [values[:, position] < 0.5 for values, position in zip(both, changed)]
rows = {
    "half gone from the changed token before": [findings.first_layer(layers) for layers in gone],
    "half arrived at the last token before": [findings.first_layer(v[:, -1] > 0.5) for v in both],
    "largest value between them": [v[:, p + 1 : -1].max().item() for v, p in zip(both, changed)],
}
show_table(beside_published(rows, model.cfg.model_name))

# %% [markdown]
# The residual stream at a position is *everything* the model knows there, so this figure shows where the information
# is, not who computes it. For that, patch what single layers add.

# %% [markdown]
# ### What single layers add
#
# **Question.** Which attention layers and which MLPs move the decisive information?
#
# **What we would expect.** At the hand-over found above, attention must do the moving: MLPs cannot look at other
# positions. If MLPs lit up at the last token in those layers, our picture of the hand-over would be wrong.

# %%
attn_patching, mlp_patching = sweep("attn_out"), sweep("mlp_out")
position_map(
    torch.stack([attn_patching, mlp_patching]),
    position_labels,
    title="Patching what one layer adds at one position, clean into corrupted",
    facet_labels=["attention output", "MLP output"],
    annotate=3,
    **colours,
)

# %%
from helpers.ioi.record import published


def strongest_cells(values: Float[Tensor, "layer pos"], positions: list[str]) -> str:
    """The three layers and positions of largest effect."""
    index = [f"L{layer} at{position}" for layer in range(len(values)) for position in positions]
    cells = pd.Series(values.flatten().tolist(), index)
    return ", ".join(f"{at} {cells[at]:+.3f}" for at in cells.abs().nlargest(3).index)


rows, published_labels = {}, published()["axes"]["position_labels"]
for site, ours in {"attn_out": attn_patching, "mlp_out": mlp_patching}.items():
    theirs = strongest_cells(published_heatmap(f"patch_{site}"), published_labels)
    rows[site] = strongest_cells(ours, position_labels), theirs
show_table(beside_published(rows, model.cfg.model_name))
say(findings.early_mlps(mlp_patching[:3, changed_position].tolist()))

# %% [markdown]
# ### Single heads
#
# **Question.** Which heads move it? We patch a head's output at all positions at once.
#
# **What we would expect.** Two groups: heads that write the answer at the end (we know them from direct attribution),
# and heads *earlier* that tell them which name to choose. The second group is what attribution could not see.

# %%
head_patching = sweep("z")  # [layer, head]
title = "Patching the output of one head at all positions, clean into corrupted"
head_map(head_patching, title=title, value_name="logit difference restored", annotate=8)

# %%
important_heads = top_heads(head_patching, 8, by_size=True)
# A clean head's direct effect replaces its corrupted one: about this much.
direct = by_head / clean_logit_diff
table = head_table(important_heads, {"restores": head_patching, "writes directly": direct})
table["so it"] = table.apply(findings.way_of_acting, axis="columns")
show_table(table, signed=True)
published_patching = published_heatmap("patch_head_z")
published_important = top_heads(published_patching, 8, by_size=True)
say(f"GPT-2 small (published) restores: {listing(published_important)}")

# %% [markdown]
# *What it does not show.* Patching all positions at once does not say at *which* position a head matters, nor whether
# it matters for where it looks or for what it reads there. The next two sections take these apart.

# %% [markdown]
# ## 11. Taking heads apart: where they look, and what they read
#
# A head does two things: its **pattern** (from queries and keys) decides where to look, its **values** decide what is
# taken from there. Patch one and keep the other:
#
# - only the pattern from the clean run: the head looks where it would look in the clean run, and reads corrupted values;
# - only the values from the clean run: it looks where it looks in the corrupted run, and reads clean values.
#
# **What we would expect.** The changed word is the second mention of the subject. A head that *moves information away
# from there* reads different values: value patching matters. A head that writes the name at the end, from a place that
# is the same in both runs, has the same values to read, and can only differ in where it looks: pattern patching matters.

# %%
_, corrupted_cache = model.run_with_cache(corrupted_tokens)


def mixed_outputs(pattern_run, value_run) -> list[Float[Tensor, "batch pos d_head"]]:
    """Output of every head, looking as in one run and reading as in another."""
    outputs = []
    for layer in range(n_layers):
        values = value_run["v", layer]  # [batch, pos, head, d_head]; heads of a group share theirs
        values = values.repeat_interleave(n_heads // values.shape[2], dim=2)
        outputs += einsum(
            "batch head to from, batch from head d_head -> head batch to d_head",
            pattern_run["pattern", layer],
            values,
        )
    return outputs


recomposed = mixed_outputs(cache, cache)[-1]
torch.testing.assert_close(recomposed, cache["z", -1][:, :, -1], atol=1e-4, rtol=1e-4)

# %%
from helpers.patching import patch_head_outputs


def patch_mixed(pattern_run, value_run) -> Float[Tensor, "layer head"]:
    """Patch every head's output, one at a time, by a mixed one."""
    values = patch_head_outputs(
        model,
        corrupted_tokens,
        [(layer, head) for layer in range(n_layers) for head in range(n_heads)],
        mixed_outputs(pattern_run, value_run),
        LogitDiff(answer_tokens),
        positions=range(changed_position, tokens.shape[1]),  # nothing differs before
    )
    return restored(values).reshape(n_layers, n_heads)


value_patching = patch_mixed(pattern_run=corrupted_cache, value_run=cache)
pattern_patching = patch_mixed(pattern_run=cache, value_run=corrupted_cache)

# %%
facets = {"whole output": head_patching, "values only": value_patching}
facets["pattern only"] = pattern_patching
title = "Patching heads, whole and taken apart, clean into corrupted"
head_map(facets, title=title, value_name="logit difference restored")

# %%
y = "restored by the whole output"
for part, verb in {"values": "explain", "pattern": "explains"}.items():
    alone = {"values": value_patching, "pattern": pattern_patching}[part]
    title = f"Does a head matter for its {part}? On the dotted line, {part} alone {verb} it"
    x = f"logit difference restored by the {part} alone"
    scatter(alone, head_patching, title=title, x=x, y=y, diagonal=True, height=480)

# %%
columns = {"whole": head_patching, "values": value_patching, "pattern": pattern_patching}
parts = head_table(sorted(important_heads), columns)
parts["matters for"] = parts.apply(findings.matters_for, axis="columns")
show_table(parts, signed=True)

# %% [markdown]
# The published record of GPT-2 small has the same two sweeps. Summed over the heads of each of the paper's roles:

# %%
from helpers.ioi.record import published_circuit

by_part = {part: published_heatmap(f"patch_head_{part}").abs() for part in ("v", "pattern")}
roles = published_circuit()
table = pd.DataFrame(
    [
        [sum(by_part[part][head].item() for head in roles[role]) for part in by_part]
        for role in roles
    ],
    index=roles,
    columns=["values, sum over heads", "pattern, sum over heads"],
)
show_table(table)

# %% [markdown]
# Read it by rows. A role that acts through its *values* carries information away from the changed word; one that acts
# through its *pattern* chooses where to look. A late head that acts through its values, and writes the answer itself,
# is one that reads the changed position directly.

# %% [markdown]
# ## 12. Who talks to whom? Path patching
#
# **Question.** We have heads that write the answer and heads that act through others. Which of the second kind speak
# to which of the first, and through what: do they change the *query* (what the head looks for), the *key* (how a
# position advertises itself) or the *value* (what it finds there)?
#
# **Direct path patching** answers it for one pair: add to the receiver's query input (or key, or value) the change that
# the sender would have written, and leave every other path as it was. It is exact, and it is the only experiment here
# that speaks about *two* heads.
#
# We take two receivers: the head with the largest direct effect, and, of the heads whose effect lies in *where they
# look*, the one that writes most.
#
# **What we would expect.** A head that chooses between names by where it looks must be told through its query or its
# key. One that merely reads what stands at the changed position needs to be told nothing: the word there is enough. If
# no sender mattered to a head that chooses, the heads found above would be a mere list, and not a circuit.

# %%
from helpers.path_patching import path_patch_sweep


def path_effects(receiver: tuple[int, int]) -> dict[str, Float[Tensor, "layer head"]]:
    """What each earlier head restores through a head's query, key and value alone."""
    metric = LogitDiff(answer_tokens)
    return {
        name: restored(path_patch_sweep(model, corrupted_tokens, tokens, receiver, name[0], metric))
        for name in ("query", "key", "value")
    }


# %%
def written(head: Head) -> float:
    """What a head adds to the clean logit difference by itself, without sign."""
    return abs(by_head[head[:2]].item())


hearing = [head for head in important_heads if head.layer > 0]  # nothing comes before layer 0
top_writer = max(hearing, key=written)
choosing = parts.index[parts["matters for"] != "what it reads"]
choosers = [head for head in hearing if head.name in choosing and head != top_writer]
top_chooser = max(choosers or hearing[:1], key=written)
into = {receiver: path_effects(receiver[:2]) for receiver in (top_writer, top_chooser)}
largest = max(values.abs().max().item() for paths in into.values() for values in paths.values())


# %%
def show_paths(receiver: Head, effects: dict[str, Float[Tensor, "layer head"]]) -> None:
    """Which earlier heads speak to a head, by its query, key and value."""
    head_map(
        {f"into its {name}": values for name, values in effects.items()},
        title=f"Which earlier heads speak to {receiver.name}?",
        value_name="logit difference restored",
        value_range=(-largest, largest),
    )


for receiver, effects in into.items():
    show_paths(receiver, effects)

# %%
from helpers.path_patching import strongest_paths
from helpers.tables import path_table

paths = []
for receiver, effects in into.items():
    paths += strongest_paths(effects, receiver, at_least=0.01)
show_table(path_table(paths), signed=True)

# %% [markdown]
# One step back: the strongest sender has inputs of its own. Whom does *it* listen to? The same figure, on the same scale.

# %%
senders = [path.sender for path in paths if path.sender.layer > 0]  # nothing comes before layer 0
strongest = max(senders, key=lambda sender: abs(sender.value), default=top_writer)
middle = Head(*strongest[:2], head_patching[strongest[:2]].item())
into[middle] = path_effects(middle[:2])
show_paths(middle, into[middle])
paths_to_middle = strongest_paths(into[middle], middle, at_least=0.01)
show_table(path_table(paths_to_middle), signed=True)

# %%
sums = {
    head.name: {name: e.sum().item() for name, e in effects.items()}
    for head, effects in into.items()
}
table = pd.DataFrame(sums).T.add_prefix("all paths into its ")
show_table(table.assign(**{"the head itself": [head.value for head in into]}), signed=True)
for head, effects in into.items():
    every = torch.stack(list(effects.values())).flatten().tolist()
    say(findings.spoken_to(receiver=head.name, paths=every, whole=head.value))

# %% [markdown]
# *What it does not show.* Indirect routes: a sender that speaks to the receiver through an MLP, or through a third head,
# is invisible in these figures, and many small contributions can hide on the scale of single paths. If the strongest
# paths are small against the total, the honest reading is "distributed".

# %% [markdown]
# ## 13. Putting it together
#
# **Question.** Do the pieces make a story? Take the heads that patching singled out, ask at which position each one
# acts, and what it looks at there.

# %%
at_layers, at_heads = (sorted({head[i] for head in important_heads}) for i in (0, 1))
where = {"layers": at_layers, "heads": at_heads, "by_position": True}
acting = patch_sweep(model, corrupted_tokens, tokens, "z", LogitDiff(answer_tokens), **where)
effects = restored(acting)  # [layer, head, position], of these layers and heads
acts_at = {
    head: int(effects[at_layers.index(head.layer), at_heads.index(head.head)].abs().argmax())
    for head in sorted(important_heads)
}

# %%
ordered = list(acts_at)
show_attention(
    [ordered[0], ordered[len(ordered) // 2], ordered[-1]],
    "One early, one middle and one late head of those that patching singled out",
)

# %% [markdown]
# One prompt again. Over all eight, positions must be told by their *role*, since the two names trade places: what is the
# subject in one prompt is the indirect object in the next.

# %%
places["token after S1"] = places["S1"] + 1
rows = {}
for head, position in acts_at.items():
    here = torch.full_like(places["end"], position)
    role = next((name for name, at in places.items() if (at == here).all()), str(position))
    attention = {at: attention_between(cache, here, places[at])[head[:2]].item() for at in places}
    attention.pop("first")  # where heads rest
    most = max(attention, key=attention.get)
    rows[head.name] = role, most, attention[most], known_kind(head)
columns = ["acts at", "looks there mostly at", "with attention", "known kind"]
show_table(pd.DataFrame.from_dict(rows, orient="index", columns=columns))

# %% [markdown]
# Now the circuit as a drawing. Nodes are heads, placed at the position where they act and the layer they are in; arrows
# are the measured direct effects from the path patching above, and from heads to the output by direct attribution. Only
# what was measured is drawn, so a head without arrows is one whose partners we did not ask for.

# %%
nodes = {head.name: (acts_at[head], head.layer) for head in important_heads}
edges = [
    (sender.name, receiver.name, f"{through} {sender.value:+.2f}", sender.value)
    for sender, through, receiver in paths + paths_to_middle
    if sender.name in nodes and receiver.name in nodes and abs(sender.value) >= 0.05
]
nodes["logits"] = (tokens.shape[1] - 1, n_layers + 1)
for head in important_heads:
    share = direct[head[:2]].item()
    if abs(share) >= 0.1:
        edges.append((head.name, "logits", f"{share:+.2f}", share))
say(findings.circuit(heads=len(nodes) - 1, effects=len(edges)))

# %%
from helpers.plotting import circuit_graph

labels = {layer: f"L{layer}" for layer in range(n_layers)} | {n_layers + 1: "output"}
axes = {"x": "position", "y": "layer", "x_labels": position_labels, "y_labels": labels}
title = "The circuit as measured: heads at positions, and the direct effects between them"
circuit_graph(nodes, edges, title=title, **axes)

# %%
onward = [path for path in paths if path.sender[:2] == middle[:2]]
onward.sort(key=lambda path: -abs(path.sender.value))
links = paths_to_middle[:1] + onward[:1]
say(findings.chain([(path.sender.name, path.through, path.receiver.name) for path in links]))
right, wrong = on_right[top_writer[:2]].item(), on_wrong[top_writer[:2]].item()
say(findings.largest_writer(right=right, wrong=wrong))

# %% [markdown]
# The published circuit of GPT-2 small, for comparison, with the roles that the paper gives to its heads, and how our own
# measures see them (attribution and patching from the published record):

# %%
rows = [
    (role, f"L{layer}H{head}", published_heads[layer, head], published_patching[layer, head])
    for role, heads in roles.items()
    for layer, head in heads
]
columns = ["role (Wang et al., 2022)", "head", "direct", "patching"]
table = pd.DataFrame(rows, columns=columns).set_index("head")
show_table(table.astype({"direct": float, "patching": float}), signed=True)

# %% [markdown]
# ### What is still unexplained
#
# - The eight prompts are four sentence frames of one pattern. Nothing here says what happens with other patterns.
# - Clean and corrupted differ only at the second subject. Anything that is the same in both (that these are names, that
#   a recipient is due) is invisible to this patching, however much it matters.
# - MLPs were measured as wholes, and the paths through them not at all.
# - Every effect is "one at a time". Parts that can stand in for each other look unimportant that way, and one that is
#   removed may be replaced by another. The last experiment below asks about that.

# %%
by_heads = sum(abs(head.value) for head in important_heads)
by_all = head_patching.abs().sum().item()
say(findings.captured(len(important_heads), by_heads, head_patching.numel(), by_all))

# %% [markdown]
# ## 14. Early heads are induction heads?!
#
# **Question.** An induction head looks at what *followed* the earlier copy of a token, so that it can be said again. That
# is a fine way to continue a text that repeats itself, and our prompts do not: after the first mention of the subject
# came "and", or a verb, and nothing like it is wanted at the end. If heads of this kind matter here all the same, what
# are they for?
#
# **What we would expect.** First, the score must carry over. If these heads do on our prompts what they do on random
# tokens, then the more of an induction head one is, the more it looks from the second mention of the subject to the
# token after the first mention. If the kinds were an accident of random tokens, the points would be scattered anyhow.

# %%
looked_at = {"induction": "the token after S1", "duplicate token": "S1"}
on_task = {
    kind: attention_between(cache, places["S2"], places[place.removeprefix("the ")])
    for kind, place in looked_at.items()
}
for kind, attention in on_task.items():
    title = f"Does the {kind} score carry over to our prompts? On the dotted line, in full"
    x, y = f"{kind} score on repeated random tokens", f"attention at S2 to {looked_at[kind]}"
    scatter(scores[kind], attention, title=title, x=x, y=y, diagonal=True, height=480)

# %%
for kind, attention in on_task.items():
    agreement = torch.stack([scores[kind].flatten(), attention.flatten().cpu()]).corrcoef()[0, 1]
    print(f"{kind}: correlation over all heads {agreement:+.2f}")
    columns = {"score": scores[kind], f"attention at S2 to {looked_at[kind]}": attention}
    show_table(head_table(top_heads(scores[kind], 3), columns))

# %% [markdown]
# Now the job. An induction head that does its usual work raises the logit of the token that it looks at: at the second
# "John" it would argue for "and". We can ask for exactly that with the attribution from section 6, at another position
# and in another direction. If the heads that *matter* push that token, they are predictors whose side effect is used.
# If they do not, "induction" describes where they look, and something else what they say.

# %%
after_first_mention = tokens[torch.arange(len(tokens)), places["token after S1"]]
direction = model.tokens_to_residual_directions(after_first_mention)  # [prompt, d_model]
written_at_S2 = cache.stack_head_results(layer=-1, pos_slice=changed_position)
scaled_at_S2 = cache.apply_ln_to_stack(written_at_S2, layer=-1, pos_slice=changed_position)
push = einsum("head batch d_model, batch d_model -> head", scaled_at_S2, direction) / len(tokens)
push = push.reshape(by_head.shape)
title = "Do induction heads argue for what followed the first mention?"
x = "induction score on repeated random tokens"
y = "added at S2 to the logit of the token after S1"
scatter(scores["induction"], push, title=title, x=x, y=y, height=480)

# %%
early = [head for head, position in acts_at.items() if position != tokens.shape[1] - 1]
columns = {
    "restores": head_patching,
    "attention at S2 to the token after S1": on_task["induction"],
    "adds to its logit": push,
}
table = head_table(early, columns)
table["known kind"] = [known_kind(head) for head in early]
show_table(table)

# %%
inducing = [head for head in early if known_kind(head).startswith("induction")]
even_at_S2 = (1 / (places["S2"] + 1)).mean()  # of each position that S2 can see
at_work = [head for head in inducing if on_task["induction"][head[:2]] > 2 * even_at_S2]
at_work, of_the_kind = ([head.name for head in heads] for heads in (at_work, inducing))
say(findings.early_induction(at_work=at_work, of_the_kind=of_the_kind))
strong = top_heads(scores["induction"], 5)
unused = [head.name for head in strong if abs(head_patching[head[:2]]) < 0.05]
say(findings.strong_but_unused(unused, of=len(strong)))

# %%
published_induction = published_scores["induction"]
columns = {"GPT-2 small: induction score": published_induction, "restores": published_patching}
show_table(head_table(top_heads(published_induction, 5), columns))

# %% [markdown]
# *What it does not show.* That a high score makes a head part of the circuit: the lists above hold strong induction heads
# that this task does without. Nor how the signal is read. "This name is repeated" could be said by *what* is written at
# the second mention, or by *where* it points; Wang et al. find both in GPT-2 small. The path patching above shows which
# inputs the listeners use.

# %% [markdown]
# ## 15. Backup name movers: what if we take the strongest head away?
#
# **Question.** Direct attribution says what the strongest writer adds. If we silence it, does the answer get worse by
# just that much?
#
# **What we would expect.** If parts were independent, the logit difference would fall by the head's own share: the *naive
# prediction*. If it falls by less, other parts have stepped in. If it falls by more, the head had also been helping
# through others, or they now work against the answer.
#
# We set the head's output to zero at the last position, with a hook, and keep the whole run.

# %%
[silenced] = top_heads(by_head, 1)


def silence(z: Float[Tensor, "batch pos head d_head"], hook) -> Tensor:
    """The head writes nothing at the last position."""
    z[:, -1, silenced.head] = 0
    return z


with model.hooks(fwd_hooks=[(f"blocks.{silenced.layer}.attn.hook_z", silence)]):
    ablated_logits, ablated_cache = model.run_with_cache(tokens)

ablated_logit_diff = logit_diff(ablated_logits, answer_tokens).mean()
total_change = (ablated_logit_diff - clean_logit_diff).item()

# %%
clean, ablated = clean_logit_diff.item(), ablated_logit_diff.item()
ours = {
    "logit_diff_average": clean,
    "top_name_mover": silenced.name,
    "top_name_mover_direct_attribution": silenced.value,
    "ablation_naive_prediction": clean - silenced.value,
    "ablation_logit_diff": ablated,
}
rows = {name: (value, published_value(name)) for name, value in ours.items()}
show_table(beside_published(rows, model.cfg.model_name))

# %% [markdown]
# Whom does the difference come from? The same attribution as before, head by head, in both runs, and what changed. (The
# attribution of the second run uses the second run's layer norm.)

# %%
ablated_outputs = ablated_cache.stack_head_results(layer=-1, pos_slice=-1)
by_head_ablated = residual_stack_to_logit_diff(ablated_outputs, ablated_cache, directions)
by_head_ablated = by_head_ablated.reshape(by_head.shape)
change = by_head_ablated - by_head
change[silenced[:2]] = 0  # its own loss is known; leave the scale to the others
facets = {"before": by_head, f"without {silenced.name}": by_head_ablated}
facets["change of the others"] = change
title = f"What each head adds to the logit difference, with and without {silenced.name}"
head_map(facets, title=title, value_name="logit difference added")

# %%
title = f"Who changes when {silenced.name} is silent? On the dotted line, nothing changes"
x, y = "logit difference added before", f"added without {silenced.name}"
scatter(by_head, by_head_ablated, title=title, x=x, y=y, diagonal=True)

# %% [markdown]
# Heads are not all that can change. MLPs after the head see another residual stream, and so does the last layer norm: if
# the stream has become shorter, it is divided by less, and everything that is left counts for more; if longer, for less.
# To keep these apart, we attribute the second run twice, once with the first run's scale and once with its own. In words,
# we count nothing below a tenth of what the silenced head wrote.

# %%
before, after = (run["ln_final.hook_scale"][:, -1, 0] for run in (cache, ablated_cache))
ratio = (before / after).mean().item()
rows = {"norm scale, before / after": (ratio, published_value("ln_scale_ratio_average"))}
show_table(beside_published(rows, model.cfg.model_name))

# %%
at_first_scale = residual_stack_to_logit_diff(ablated_outputs, cache, directions)
head_changes = at_first_scale.reshape(by_head.shape) - by_head
head_changes[silenced[:2]] = 0
ablated_components = ablated_cache.decompose_resid(layer=-1, pos_slice=-1)
ablated_components = residual_stack_to_logit_diff(ablated_components, cache, directions)
is_mlp = torch.tensor([label.endswith("mlp_out") for label in component_labels])
account = {
    f"{silenced.name}'s own share": -silenced.value,
    "other heads": head_changes.sum().item(),
    "MLPs": (ablated_components - by_component)[is_mlp].sum().item(),
    "layer norm scale": (ablated_logit_diff - ablated_components.sum()).item(),
}
torch.testing.assert_close(sum(account.values()), total_change, atol=1e-3, rtol=0)
account["in all"] = total_change
show_table(pd.DataFrame({"change of the logit difference": account}), signed=True)

# %%
helped, hurt = top_heads(head_changes, 3), top_heads(head_changes, 3, smallest=True)
columns = {"added before": by_head, "change, at the same scale": head_changes}
show_table(head_table(helped + hurt, columns), signed=True)
say(findings.backup(pd.Series(account) / silenced.value))
row = standing_out.loc[silenced.name]
say(findings.what_is_lost(silenced.name, row, even=even_share))

# %% [markdown]
# **Why would other heads change at all?** Dropout, which silences parts at random during training, would be a reason to
# keep a spare; but repair of this sort has been seen in models trained without it
# ([McGrath et al., 2023](https://arxiv.org/abs/2307.15771)). And why does a *negative* head often do less harm once the
# strongest writer is gone? Two explanations are on the table: it responds to what has already been predicted, or its
# contribution only looks smaller since all is rescaled. The account above tells how much the scale can explain; the
# rest needs experiments of its own, which the [demo on backup name movers](Backup_Name_Movers_Demo.ipynb) makes.
#
# *What it does not show.* Zero is not a value that this head ever takes, so part of what we see may be the model's answer
# to a strange input. And eight prompts cannot tell a habit from an accident.

# %% [markdown]
# ## 16. Is it the published run?
#
# Published values of GPT-2 small stood beside this run's all along. If this *is* GPT-2 small, they must agree, figure by
# figure: attribution, logit lens, every patching heatmap, the head scores and the ablation. The next cell measures them
# all again and says where they do not. On another model there is nothing to compare, and it says that.

# %%
from helpers.ioi.published_run import published_comparison

say(published_comparison(model))

# %% [markdown]
# ## 17. Exercises
#
# <details><summary>1. Turn the patching round: corrupted into clean. Does the same list of heads come out?</summary>
#
# Swap `tokens` and `corrupted_tokens` in `sweep`, and put 0 and 1 of `restored` the other way round. Restoring asks which
# activations are *enough*, breaking asks which are *needed*. Parts that back each other up differ: each is enough, none
# is needed.
#
# </details>
#
# <details><summary>2. Hypothesis B was invisible to these prompts. Design a corrupted prompt that could show it.</summary>
#
# Change the *first* mention of a name instead of the second: "When John and Mary … John gave" against "When Dan and
# Mary … John gave". Now the first half differs, so positions of the names can light up. Make sure that only one token
# changes and that the answer pair still makes sense.
#
# </details>
#
# <details><summary>3. Against the paper's table of heads: which of your classes agree, and which would you rename?</summary>
#
# Read the table above by role. For GPT-2 small, the direct column finds name movers and negative name movers, the
# patching column adds the S-inhibition heads, and with them some induction and duplicate-token heads, which write nothing
# to the output themselves. On another model, start from *what the head does* (where it looks, which logit it moves), and only then reach for a name. A head
# that lowers the wrong name while looking at its second mention is no name mover, however large its attribution.
#
# </details>
#
# <details><summary>4. Is a head's effect carried by one prompt?</summary>
#
# Call `patch_sweep` with `LogitDiff(answer_tokens, per_prompt=True)`: it keeps a last axis over prompts. Plot
# the strongest head's eight values. With eight prompts an average can be one outlier.
#
# </details>
