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
import torch
from fancy_einsum import einsum
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.utilities import test_prompt

from helpers.head_scores import Head, attention_scores, repeated_random_tokens, top_heads
from helpers.ioi import reference_prompts
from helpers.logit_diff import (
    LogitDiff,
    logit_diff_directions,
    normalise,
    residual_stack_to_logit_diff,
)
from helpers.models import load_model
from helpers.patching import patch_head_outputs, patch_sweep
from helpers.path_patching import path_patch_sweep
from helpers.plotting import (
    attention_patterns,
    circuit_graph,
    head_map,
    head_names,
    imshow,
    line,
    scatter,
)
from helpers.published_run import published_comparison
from helpers.reference import (
    beside_published,
    published,
    published_circuit,
    published_heatmap,
    published_line,
    published_value,
)
from helpers.wording import say

# %% [markdown]
# We only ever look at a finished model, so nothing needs a gradient. Switching them off saves memory and time.

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
say(
    f"{model.cfg.model_name}: {model.cfg.n_layers} layers of {model.cfg.n_heads} attention heads, "
    f"residual stream {model.cfg.d_model} wide, vocabulary of {model.cfg.d_vocab} tokens"
)

# %% [markdown]
# ## 3. Can the model do the task?
#
# **Question.** Is there anything to explain? If the model does not do the task, the rest is a waste of time, and this
# is the cheapest place to find out.
#
# **What we would expect.** If it can, the right name is the most likely next token, or close to it, and clearly ahead
# of the other name. If not, we would see both names at about the same rank.

# %%
test_prompt(
    "After John and Mary went to the store, John gave a bottle of milk to",
    " Mary",
    model,
    prepend_bos=True,
)

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
prompts = reference_prompts(model)
for prompt, (indirect_object, subject) in zip(prompts.prompts, prompts.answers):
    print(f"{prompt} | right:{indirect_object:7} wrong:{subject}")

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
for number, row in enumerate(prompts.tokens):
    print(number, "│".join(model.to_str_tokens(row)))
print(f"tokens: {list(prompts.tokens.shape)} [prompt, position]")
print(f"answers: {list(prompts.answer_tokens.shape)} [prompt, right or wrong]")

# %% [markdown]
# Now run the model once and keep everything. `run_with_cache` returns the logits and a dictionary of all intermediate
# activations, addressed by name and layer.

# %%
logits, cache = model.run_with_cache(prompts.tokens)
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
    logits: Float[Tensor, "batch pos vocab"],
    answer_tokens: Int[Tensor, "batch 2"],
    per_prompt: bool = False,
) -> Float[Tensor, "..."]:
    """Logit of the right answer minus logit of the wrong one, at the last token."""
    right, wrong = logits[:, -1].gather(-1, answer_tokens).unbind(-1)
    return right - wrong if per_prompt else (right - wrong).mean()


per_prompt = logit_diff(logits, prompts.answer_tokens, per_prompt=True)
clean_logit_diff = logit_diff(logits, prompts.answer_tokens)
rows = {
    f"{prompt} …": (ours, theirs)
    for prompt, ours, theirs in zip(
        prompts.prompts, per_prompt.tolist(), published_value("logit_diff_per_prompt")
    )
}
rows["average"] = (clean_logit_diff.item(), published_value("logit_diff_average"))
print(beside_published(rows, model.cfg.model_name))

# %% [markdown]
# **Is the yardstick right?** A metric deserves a test before it is used. Give the model the *corrupted* prompts, in
# which the two names of each pair trade roles, and ask about the old answers: the difference must turn into its
# negative, since the same eight prompts are asked the opposite question. Rescaled so that the corrupted run is 0 and
# the clean run is 1, the metric is calibrated by construction; we assert both.

# %%
corrupted_logits = model(prompts.corrupted_tokens)
corrupted_logit_diff = logit_diff(corrupted_logits, prompts.answer_tokens)


def normalised_logit_diff(logits: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, ""]:
    """0 on the corrupted prompts, 1 on the clean ones."""
    difference = logit_diff(logits, prompts.answer_tokens)
    return (difference - corrupted_logit_diff) / (clean_logit_diff - corrupted_logit_diff)


torch.testing.assert_close(normalised_logit_diff(corrupted_logits).item(), 0.0, atol=1e-5, rtol=0)
torch.testing.assert_close(normalised_logit_diff(logits).item(), 1.0, atol=1e-5, rtol=0)
torch.testing.assert_close(corrupted_logit_diff, -clean_logit_diff, atol=1e-3, rtol=0)
print(f"clean {clean_logit_diff:+.2f}, corrupted {corrupted_logit_diff:+.2f}")
say(
    f"On (geometric) average the right name is e^{clean_logit_diff:.2f} ="
    f" {clean_logit_diff.exp():.1f} times as likely as the wrong one; the worst prompt has a"
    f" difference of {per_prompt.min():.2f}."
)
print(f"Prompts on which the right name wins: {(per_prompt > 0).sum()} of {len(prompts)}.")

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
answer_directions = model.tokens_to_residual_directions(prompts.answer_tokens)
directions = answer_directions[:, 0] - answer_directions[:, 1]
print(
    f"directions of the answers: {list(answer_directions.shape)} [prompt, right or wrong, d_model]"
)
print(f"logit difference directions: {list(directions.shape)} [prompt, d_model]")

# %% [markdown]
# **A check before anything rests on it.** The final residual stream, through the last layer norm and on to these
# directions, must give back the logit difference that we measured. If this failed, everything below would be wrong.

# %%
final_residual = cache["resid_post", -1][:, -1]  # [prompt, d_model]
scaled_residual = cache.apply_ln_to_stack(final_residual[None], layer=-1, pos_slice=-1)[0]
by_hand = einsum("batch d_model, batch d_model -> batch", scaled_residual, directions).mean()
torch.testing.assert_close(by_hand, clean_logit_diff, atol=1e-3, rtol=1e-4)
torch.testing.assert_close(directions, logit_diff_directions(model, prompts.answer_tokens))
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
line(
    lens,
    title=(
        "Logit lens: the logit difference one would read off the residual stream at the last token"
    ),
    x="residual stream before (pre) or inside (mid) a layer",
    y="logit difference",
    x_labels=lens_labels,
    annotate=3,
)

# %%
jumps = dict(zip(lens_labels[1:], lens.diff().tolist()))
published_lens = published_line("logit_lens")
published_jumps = dict(
    zip(list(published_lens)[1:], torch.tensor(list(published_lens.values())).diff().tolist())
)
for who, steps, total in [
    (f"this run ({model.cfg.model_name})", jumps, lens[-1].item()),
    ("GPT-2 small (published)", published_jumps, published_lens["final_post"]),
]:
    where, jump = max(steps.items(), key=lambda step: step[1])
    kind = "an attention layer" if where.endswith("mid") else "an MLP"
    say(
        f"{who}: the largest rise is at {where}, {jump:+.2f} of a final {total:.2f}, and is made by"
        f" {kind}."
    )
before_jump = lens[: lens.diff().argmax() + 1].abs().max()
print(f"Up to its largest rise, this run's reading stays within ±{before_jump:.3f}.")

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
added = dict(zip(component_labels, by_component.tolist()))
layers = range(model.cfg.n_layers)
line(
    {
        "attention": [added[f"{layer}_attn_out"] for layer in layers],
        "MLP": [added[f"{layer}_mlp_out"] for layer in layers],
    },
    title="What each layer's attention and MLP add to the logit difference",
    x="layer",
    y="logit difference added",
    x_labels=[f"L{layer}" for layer in layers],
    annotate=2,
    annotate_by="size",
)

# %%
torch.testing.assert_close(by_component.sum(), clean_logit_diff, atol=1e-3, rtol=1e-4)


def total_of(kind: str, values: dict[str, float]) -> float:
    """Sum over the components whose label ends in ``kind``."""
    return sum(value for label, value in values.items() if label.endswith(kind))


theirs = published_line("layer_attribution")
print(
    beside_published(
        {
            "all attention layers": (total_of("attn_out", added), total_of("attn_out", theirs)),
            "all MLPs": (total_of("mlp_out", added), total_of("mlp_out", theirs)),
            "embeddings": (total_of("embed", added), total_of("embed", theirs)),
            "largest component": (max(added, key=added.get), max(theirs, key=theirs.get)),
            "most negative component": (min(added, key=added.get), min(theirs, key=theirs.get)),
        },
        model.cfg.model_name,
    )
)
print(
    f"The parts sum to {by_component.sum():.2f}, the whole logit difference: nothing is left out."
)

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
head_map(
    by_head,
    title="What each attention head adds to the logit difference",
    value_name="logit difference added",
    annotate=6,
)

# %%
positive_heads = top_heads(by_head, 3)
negative_heads = top_heads(by_head, 3, smallest=True)
published_heads = published_heatmap("head_attribution")


def listing(heads) -> str:
    """Names and values, such as L0H1 +0.50, that no line break parts."""
    return ", ".join(f"{head.name}\N{NO-BREAK SPACE}{head.value:+.3f}" for head in heads)


print(
    beside_published(
        {
            "for the answer": (
                listing(positive_heads),
                listing(top_heads(published_heads, 3)),
            ),
            "against it": (
                listing(negative_heads),
                listing(top_heads(published_heads, 3, smallest=True)),
            ),
        },
        model.cfg.model_name,
    )
)
sizes, threshold = by_head.flatten().abs(), 0.1
large = sizes[sizes > threshold]
say(
    f"Of {len(sizes)} heads, {len(large)} move the logit difference by more than {threshold};"
    f" together they make up {large.sum() / sizes.sum():.1%} of all the movement (signs ignored)."
)

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
# directions separately (`answer_directions[:, 0]` and `answer_directions[:, 1]`) and compare. The table in the next
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
        tokens=model.to_str_tokens(prompts.tokens[prompt]),
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
def attention_from_end(head) -> dict[str, float]:
    """Average attention from the last token to each named position."""
    pattern = cache["pattern", head.layer][:, head.head, -1]  # [prompt, source]
    shares = {
        name: pattern.gather(1, positions[:, None]).mean().item()
        for name, positions in prompts.positions.items()
    }
    return {
        "IO": shares["IO"],
        "S1": shares["S1"],
        "S2": shares["S2"],
        "first": pattern[:, 0].mean().item(),
    }


on_right, on_wrong = (
    residual_stack_to_logit_diff(head_outputs, cache, direction).reshape(by_head.shape)
    for direction in answer_directions.unbind(1)
)
torch.testing.assert_close(on_right - on_wrong, by_head, atol=1e-4, rtol=1e-4)

print("          attention from the end to      effect on the logit of")
print("head      IO     S1     S2     first     right name  wrong name")
for head in positive_heads + negative_heads:
    a = attention_from_end(head)
    right, wrong = on_right[head.layer, head.head], on_wrong[head.layer, head.head]
    print(
        f"{head.name:8} {a['IO']:.3f}  {a['S1']:.3f}  {a['S2']:.3f}  {a['first']:.3f}     "
        f"{right:+10.3f}  {wrong:+10.3f}"
    )


# %%
# Of each position, for a head that looks at all of them alike.
even_share = 1 / prompts.tokens.shape[1]


def describe(head) -> str:
    """One sentence from the numbers above."""
    attention = attention_from_end(head)
    names = {"IO": attention["IO"], "S1": attention["S1"], "S2": attention["S2"]}
    most = max(names, key=names.get)
    right, wrong = on_right[head.layer, head.head].item(), on_wrong[head.layer, head.head].item()
    where = "looks at no name in particular"
    if names[most] > 2 * even_share:
        where = f"looks most at {most}"
    moves = f"{'raises' if right > 0 else 'lowers'} the right name"
    if abs(wrong) > abs(right):
        moves = f"{'raises' if wrong > 0 else 'lowers'} the wrong name"
    return f"{head.name} {where} and mostly {moves}."


for head in positive_heads + negative_heads:
    print(describe(head))
plain_movers = [
    head.name
    for head in positive_heads
    if describe(head).endswith("looks most at IO and mostly raises the right name.")
]
say(
    "Name movers in the plain sense (look at IO, raise it) among the top heads:"
    f" {plain_movers or 'none'}."
)

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
length = 100
repeated_tokens = repeated_random_tokens(model, batch=2, length=length, seed=0)
induction_score = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)


def induction_hook(pattern: Float[Tensor, "batch head dest src"], hook) -> None:
    """Average attention from each token to the one after its earlier copy."""
    to_after_copy = pattern.diagonal(-(length - 1), dim1=-2, dim2=-1)
    induction_score[hook.layer()] = to_after_copy.mean(dim=(0, -1)).float().cpu()


model.run_with_hooks(
    repeated_tokens,
    return_type=None,
    fwd_hooks=[(lambda name: name.endswith("hook_pattern"), induction_hook)],
)

scores = attention_scores(model, repeated_tokens)  # all three kinds, the same way
torch.testing.assert_close(scores["induction"], induction_score)
head_map(
    torch.stack(list(scores.values())),
    facet_labels=list(scores),
    title="How much each head is of a known kind (random tokens, repeated)",
    value_name="average attention on the diagonal",
    value_range=(0, 1),
    scale="sequential",
)

# %%
published_scores = {
    "previous token": published_heatmap("score_previous_token"),
    "duplicate token": published_heatmap("score_duplicate_token"),
    "induction": published_heatmap("score_induction"),
}
strongest, how_many = {}, {}
for kind, score in scores.items():
    theirs = published_scores[kind]
    strongest[kind] = (listing(top_heads(score, 3)), listing(top_heads(theirs, 3)))
    how_many[kind] = (int((score > 0.5).sum()), int((theirs > 0.5).sum()))
print("The strongest heads of each kind, by score:")
print(beside_published(strongest, model.cfg.model_name))
print("\nHow many heads score above 0.5:")
print(beside_published(how_many, model.cfg.model_name))


# %%
def known_kind(head) -> str:
    """The kind of a head, if more than half of its attention is of that kind."""
    kinds = {kind: score[head.layer, head.head].item() for kind, score in scores.items()}
    kind = max(kinds, key=kinds.get)
    return f"{kind}, {kinds[kind]:.2f}" if kinds[kind] > 0.5 else "none of the three"


for head in positive_heads + negative_heads:
    print(
        f"{head.name:8} {head.value:+.3f} to the logit difference; known kind: {known_kind(head)}"
    )

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
def patched_logit_diff(layer: int, position: int) -> Float[Tensor, ""]:
    """Normalised logit difference of the corrupted run with one vector from the clean run."""

    def patch(
        resid: Float[Tensor, "batch pos d_model"], hook
    ) -> Float[Tensor, "batch pos d_model"]:
        resid[:, position] = cache["resid_pre", layer][:, position]
        return resid

    hooks = [(f"blocks.{layer}.hook_resid_pre", patch)]
    return normalised_logit_diff(model.run_with_hooks(prompts.corrupted_tokens, fwd_hooks=hooks))


[changed_position] = prompts.changed_positions
no_op, full = patched_logit_diff(0, changed_position - 1), patched_logit_diff(0, changed_position)
torch.testing.assert_close(no_op.item(), 0.0, atol=1e-4, rtol=0)
torch.testing.assert_close(full.item(), 1.0, atol=1e-4, rtol=0)
print(f"the runs differ at {prompts.position_labels[changed_position]!r}")
print(f"patching a position that is the same in both: {no_op:.3f}")
print(f"patching the changed token: {full:.3f}")

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
# in each further layer. Nothing is approximated; the next cell compares one value with the plain hook above.
#
# </details>


# %%
def normalise_sweep(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """0 is the corrupted run, 1 the clean run."""
    return normalise(values, clean=clean_logit_diff, corrupted=corrupted_logit_diff)


def sweep(site: str) -> Float[Tensor, "..."]:
    """Clean activations into the corrupted run, one at a time."""
    metric = LogitDiff(prompts.answer_tokens)
    return normalise_sweep(
        patch_sweep(model, prompts.corrupted_tokens, prompts.tokens, site, metric)
    )


layer_labels = [f"L{layer}" for layer in range(model.cfg.n_layers)]
resid_patching = sweep("resid_pre")  # [layer, position]
some_layer = model.cfg.n_layers // 2
by_hook = patched_logit_diff(some_layer, changed_position)
torch.testing.assert_close(
    resid_patching[some_layer, changed_position], by_hook, atol=1e-3, rtol=1e-3
)
imshow(
    resid_patching,
    title="Where the answer stands: patching the residual stream, clean into corrupted",
    x="position",
    y="before layer",
    x_labels=prompts.position_labels,
    y_labels=layer_labels,
    value_name="logit difference restored",
    value_range=(-1, 1),
)


# %%
def hand_over(values: Float[Tensor, "layer pos"], position: int) -> dict[str, object]:
    """Where the information stops being at the changed token, and where it is at the end."""
    left, arrived = values[:, position] < 0.5, values[:, -1] > 0.5
    elsewhere = values.clone()
    elsewhere[:, [position, -1]] = 0
    return {
        "half gone from the changed token before": (
            f"L{int(left.int().argmax())}" if left.any() else "never"
        ),
        "half arrived at the last token before": (
            f"L{int(arrived.int().argmax())}" if arrived.any() else "never"
        ),
        "layers until then": (
            f"{int(arrived.int().argmax())} of {len(values)}" if arrived.any() else "all"
        ),
        "largest value at any other position": elsewhere.max().item(),
    }


published_labels = published()["axes"]["position_labels"]
published_resid = published_heatmap("patch_resid_pre")
# Before the first layer, the changed position restores everything.
published_changed = int(published_resid[0].argmax())
ours = hand_over(resid_patching, changed_position)
theirs = hand_over(published_resid, published_changed)
print(beside_published({what: (ours[what], theirs[what]) for what in ours}, model.cfg.model_name))

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
imshow(
    torch.stack([attn_patching, mlp_patching]),
    title="Patching what one layer adds at one position, clean into corrupted",
    x="position",
    y="layer",
    x_labels=prompts.position_labels,
    y_labels=layer_labels,
    facet_labels=["attention output", "MLP output"],
    value_name="logit difference restored",
    value_range=(-1, 1),
    annotate=3,
)


# %%
def strongest_cells(values: Float[Tensor, "layer pos"], labels: list[str], count: int = 3) -> str:
    """Layers and positions of largest effect."""
    cells = [
        divmod(int(index), values.shape[1]) for index in values.flatten().abs().topk(count).indices
    ]
    return ", ".join(f"L{layer} at {labels[pos]} {values[layer, pos]:+.3f}" for layer, pos in cells)


for kind, ours, theirs in [
    ("attention", attn_patching, published_heatmap("patch_attn_out")),
    ("MLPs", mlp_patching, published_heatmap("patch_mlp_out")),
]:
    say(f"{kind}, this run: {strongest_cells(ours, prompts.position_labels)}")
    say(f"{kind}, GPT-2 small (published): {strongest_cells(theirs, published_labels)}")
first_mlps = mlp_patching[:3, changed_position]
say(
    "The first three MLPs at the changed token restore"
    f" {', '.join(f'{value:.3f}' for value in first_mlps)}: early MLPs can matter because they work"
    " out what the token there is, which is all that was changed."
)

# %% [markdown]
# ### Single heads
#
# **Question.** Which heads move it? We patch a head's output at all positions at once.
#
# **What we would expect.** Two groups: heads that write the answer at the end (we know them from direct attribution),
# and heads *earlier* that tell them which name to choose. The second group is what attribution could not see.

# %%
head_patching = sweep("z")  # [layer, head]
head_map(
    head_patching,
    title="Patching the output of one head at all positions, clean into corrupted",
    value_name="logit difference restored",
    annotate=8,
)

# %%
important_heads = top_heads(head_patching, 8, by_size=True)
published_patching = published_heatmap("patch_head_z")
published_important = top_heads(published_patching, 8, by_size=True)
say(f"GPT-2 small (published): {listing(published_important)}")
say(f"this run ({model.cfg.model_name}): {listing(important_heads)}")
print("\nhead      restores  writes directly  so it")
for head in important_heads:
    direct = by_head[head.layer, head.head].item()
    # A clean head's direct effect replaces its corrupted one: about this much, normalised.
    directly = direct / clean_logit_diff.item()
    role = (
        "mostly writes the answer itself"
        if directly / head.value > 0.5
        else "mostly acts through later parts"
    )
    print(f"{head.name:8} {head.value:+9.3f}  {directly:+15.3f}  {role}")

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
query_heads_per_value = model.cfg.n_heads // (
    getattr(model.cfg, "n_key_value_heads", None) or model.cfg.n_heads
)
_, corrupted_cache = model.run_with_cache(prompts.corrupted_tokens)


def values_of(run, layer: int, head: int) -> Float[Tensor, "batch pos d_head"]:
    """What a head can read at each position. Heads of one group may share their values."""
    return run["v", layer][:, :, head // query_heads_per_value]


def mixed_output(
    pattern_run, value_run, layer: int, head: int
) -> Float[Tensor, "batch pos d_head"]:
    """Output of a head that looks as in one run and reads as in another."""
    pattern = pattern_run["pattern", layer][:, head]
    return einsum(
        "batch to from, batch from d_head -> batch to d_head",
        pattern,
        values_of(value_run, layer, head),
    )


all_heads = [
    (layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)
]
recomposed = mixed_output(cache, cache, *all_heads[-1])
torch.testing.assert_close(
    recomposed, cache["z", all_heads[-1][0]][:, :, all_heads[-1][1]], atol=1e-4, rtol=1e-4
)


def patch_mixed(pattern_run, value_run) -> Float[Tensor, "layer head"]:
    """Patch every head's output, one at a time, by a mixed one."""
    outputs = [mixed_output(pattern_run, value_run, *head) for head in all_heads]
    values = patch_head_outputs(
        model,
        prompts.corrupted_tokens,
        all_heads,
        outputs,
        LogitDiff(prompts.answer_tokens),
        positions=range(changed_position, prompts.tokens.shape[1]),  # nothing differs before
    )
    return normalise_sweep(values).reshape(head_patching.shape)


value_patching = patch_mixed(pattern_run=corrupted_cache, value_run=cache)
pattern_patching = patch_mixed(pattern_run=cache, value_run=corrupted_cache)
head_map(
    torch.stack([head_patching, value_patching, pattern_patching]),
    facet_labels=["whole output", "values only", "pattern only"],
    title="Patching heads, whole and taken apart, clean into corrupted",
    value_name="logit difference restored",
)

# %%
names = [name for row in head_names(model.cfg.n_layers, model.cfg.n_heads) for name in row]
for part, values in [("values", value_patching), ("pattern", pattern_patching)]:
    scatter(
        values,
        head_patching,
        names=names,
        title=(
            f"Does a head matter for its {part}? On the dotted line, {part} alone"
            f" explain{'s' if part == 'pattern' else ''} it"
        ),
        x=f"logit difference restored by the {part} alone",
        y="restored by the whole output",
        diagonal=True,
        height=480,
    )


# %%
def which_part(layer: int, head: int) -> str:
    """Whether values or pattern account for a head's effect."""
    value, pattern = value_patching[layer, head].item(), pattern_patching[layer, head].item()
    if min(abs(value), abs(pattern)) > 0.5 * max(abs(value), abs(pattern)):
        return "both"
    return "what it reads (values)" if abs(value) > abs(pattern) else "where it looks (pattern)"


print("head      whole   values  pattern  matters for")
for head in sorted(important_heads):
    v, p = value_patching[head.layer, head.head], pattern_patching[head.layer, head.head]
    print(
        f"{head.name:8} {head.value:+6.3f}   {v:+6.3f}   {p:+6.3f}  "
        f"{which_part(head.layer, head.head)}"
    )
for part in ("what it reads (values)", "where it looks (pattern)", "both"):
    such = [head.name for head in sorted(important_heads) if which_part(*head[:2]) == part]
    print(f"{part:25} {', '.join(such) or 'none'}")

# %% [markdown]
# The published record of GPT-2 small has the same two sweeps. Summed over the heads of each of the paper's roles:

# %%
by_values, by_pattern = (
    published_heatmap("patch_head_v").abs(),
    published_heatmap("patch_head_pattern").abs(),
)
print("GPT-2 small (published)      values  pattern  (sums over heads, signs ignored)")
for role, heads in published_circuit().items():
    layers_of, heads_of = zip(*heads)
    print(
        f"{role:26} {by_values[layers_of, heads_of].sum():8.3f} "
        f"{by_pattern[layers_of, heads_of].sum():8.3f}"
    )

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
def path_effects(receiver: Head) -> Float[Tensor, "input layer head"]:
    """Effect of each earlier head through the receiver's query, key and value.

    1 is the whole difference between clean and corrupted.
    """
    metric = LogitDiff(prompts.answer_tokens)
    runs = prompts.corrupted_tokens, prompts.tokens
    return normalise_sweep(
        torch.stack(
            [path_patch_sweep(model, *runs, receiver[:2], through, metric) for through in "qkv"]
        )
    )


def direct_effect(head: Head) -> float:
    """What a head adds to the clean logit difference by itself, without sign."""
    return abs(by_head[head.layer, head.head].item())


hearing = [head for head in important_heads if head.layer > 0]  # nothing comes before layer 0
top_writer = max(hearing, key=direct_effect)
choosers = [head for head in hearing if which_part(*head[:2]) != "what it reads (values)"]
top_chooser = max(
    [head for head in choosers if head != top_writer] or hearing[:1], key=direct_effect
)
into = {receiver: path_effects(receiver) for receiver in (top_writer, top_chooser)}
path_range = (
    -max(e.abs().max().item() for e in into.values()),
    max(e.abs().max().item() for e in into.values()),
)
for receiver, effects in into.items():
    head_map(
        effects,
        facet_labels=[f"into its {name}" for name in ("query", "key", "value")],
        title=f"Which earlier heads speak to {receiver.name}?",
        value_name="logit difference restored",
        value_range=path_range,
    )


# %%
def strongest_paths(
    effects: Float[Tensor, "input layer head"], receiver: Head, count: int
) -> list[tuple]:
    """(sender, input, receiver), strongest first."""
    found = [
        (Head(h.layer, h.head, effects[i, h.layer, h.head].item()), name, receiver)
        for i, name in enumerate(("query", "key", "value"))
        for h in top_heads(effects[i].abs(), count)
    ]
    return sorted(found, key=lambda path: -abs(path[0].value))[:count]


def report_paths(receiver: Head, effects: Float[Tensor, "input layer head"]) -> list[tuple]:
    """Print the strongest paths into a head, of 0.01 or more, and the sum of all paths."""
    paths = [path for path in strongest_paths(effects, receiver, 4) if abs(path[0].value) >= 0.01]
    for sender, name, _ in paths:
        print(f"{sender.name:8} -> {name:5} of {receiver.name:8} {sender.value:+.3f}")
    if not paths:
        print(f"no single path into {receiver.name} restores as much as 0.01")
    say(
        f"sum of all such single paths into {receiver.name}: {effects.sum():+.3f} (query"
        f" {effects[0].sum():+.3f}, key {effects[1].sum():+.3f}, value {effects[2].sum():+.3f});"
        f" patching the head itself: {receiver.value:+.3f}"
    )
    if effects.abs().sum() < abs(receiver.value) / 2:
        say(
            f"So hardly any head speaks to {receiver.name} directly: what makes it differ between"
            " the runs reaches it from the changed token's embedding and from MLPs (which may have"
            " listened to heads before)."
        )
    print()
    return paths


paths_to_writers = [
    path for receiver, effects in into.items() for path in report_paths(receiver, effects)
]

# %% [markdown]
# One step back: the strongest sender has inputs of its own. Whom does *it* listen to? The same figure, on the same scale.

# %%
senders = [
    sender for sender, _, _ in paths_to_writers if sender.layer > 0
]  # nothing comes before layer 0
strongest = max(senders, key=lambda sender: abs(sender.value), default=top_writer)
middle = Head(strongest.layer, strongest.head, head_patching[strongest[:2]].item())
into_middle = path_effects(middle)
head_map(
    into_middle,
    facet_labels=[f"into its {name}" for name in ("query", "key", "value")],
    title=f"Which earlier heads speak to {middle.name}?",
    value_name="logit difference restored",
    value_range=path_range,
)
paths_to_middle = report_paths(middle, into_middle)
paths = paths_to_writers + paths_to_middle

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
acting = patch_sweep(
    model,
    prompts.corrupted_tokens,
    prompts.tokens,
    "z",
    LogitDiff(prompts.answer_tokens),
    layers=(their_layers := sorted({head.layer for head in important_heads})),
    heads=(their_numbers := sorted({head.head for head in important_heads})),
    by_position=True,
)
acting = normalise_sweep(acting)  # [layer, head, position]


def acts_at(head: Head) -> int:
    """The position at which patching a head's output has the largest effect."""
    effect = acting[their_layers.index(head.layer), their_numbers.index(head.head)]
    return int(effect.abs().argmax())


ordered = sorted(important_heads)
early_middle_late = [ordered[0], ordered[len(ordered) // 2], ordered[-1]]
show_attention(
    early_middle_late, "One early, one middle and one late head of those that patching singled out"
)

# %% [markdown]
# One prompt again. Over all eight, positions must be told by their *role*, since the two names trade places: what is the
# subject in one prompt is the indirect object in the next.

# %%
places = {**prompts.positions, "token after S1": prompts.positions["S1"] + 1}
places["first token"] = torch.zeros_like(places["end"])


def role_of(position: int) -> str:
    """The role that a position has in every prompt, else its number."""
    return next(
        (name for name, where in places.items() if (where == position).all()),
        f"position {position}",
    )


def mostly_looks_at(head: Head, position: int) -> tuple[str, float]:
    """The role that a head looks at most from a position, and how much, averaged over prompts."""
    pattern = cache["pattern", head.layer][:, head.head, position]  # [prompt, source]
    shares = {
        name: pattern.gather(1, where[:, None].to(pattern.device)).mean().item()
        for name, where in places.items()
        if name != "first token"  # where heads rest
    }
    return max(shares.items(), key=lambda item: item[1])


print("head      acts at  looks there mostly at (but for the first token)  known kind")
for head in ordered:
    place, share = mostly_looks_at(head, acts_at(head))
    print(
        f"{head.name:8}  {role_of(acts_at(head)):7}  {place:15} "
        f"{share:6.3f}{'':27}{known_kind(head)}"
    )

# %% [markdown]
# Now the circuit as a drawing. Nodes are heads, placed at the position where they act and the layer they are in; arrows
# are the measured direct effects from the path patching above, and from heads to the output by direct attribution. Only
# what was measured is drawn, so a head without arrows is one whose partners we did not ask for.

# %%
nodes = {head.name: (acts_at(head), head.layer) for head in important_heads}
edges = []
for sender, name, receiver in paths:
    if sender.name in nodes and receiver.name in nodes and abs(sender.value) >= 0.05:
        edges.append((sender.name, receiver.name, f"{name} {sender.value:+.2f}", sender.value))
nodes["logits"] = (prompts.tokens.shape[1] - 1, model.cfg.n_layers + 1)
for head in important_heads:
    share = (by_head[head.layer, head.head] / clean_logit_diff).item()
    if abs(share) >= 0.1:
        edges.append((head.name, "logits", f"{share:+.2f}", share))
circuit_graph(
    nodes,
    edges,
    title="The circuit as measured: heads at positions, and the direct effects between them",
    x="position",
    y="layer",
    x_labels=prompts.position_labels,
    y_labels={
        **{layer: f"L{layer}" for layer in range(model.cfg.n_layers)},
        model.cfg.n_layers + 1: "output",
    },
)
say(
    f"{len(nodes) - 1} heads, and {len(edges)} direct effects of at least 0.05 between heads or 0.1"
    " on the logits; the rest of the logit difference goes other ways."
)

# %%
into_it = max(paths_to_middle, key=lambda path: abs(path[0].value))
out_of_it = [path for path in paths_to_writers if path[0][:2] == middle[:2]]
if out_of_it:
    first, first_input, _ = into_it
    _, middle_input, last = max(out_of_it, key=lambda path: abs(path[0].value))
    say(
        f"The strongest single links, joined: {first.name} (known kind: {known_kind(first)}) ->"
        f" {first_input} of {middle.name} -> {middle_input} of {last.name} -> logits."
    )
right, wrong = on_right[top_writer[:2]].item(), on_wrong[top_writer[:2]].item()
if right - wrong < 0:
    verdict = "it works against the answer."
elif wrong < 0 and abs(wrong) > abs(right):
    verdict = "inhibition of the repeated name, as in hypothesis A, done at the output itself."
elif right > abs(wrong):
    verdict = (
        "it mostly raises the right name, so if the repeated one is inhibited, that happens before."
    )
else:
    verdict = "it raises both names, or lowers both, and the right one a little less or more."
say(
    f"The largest writer adds {right:+.3f} to the right name and {wrong:+.3f} to the wrong one:"
    f" {verdict}"
)

# %% [markdown]
# The published circuit of GPT-2 small, for comparison, with the roles that the paper gives to its heads, and how our own
# measures see them (attribution and patching from the published record):

# %%
print(f"{'role (Wang et al., 2022)':26} {'head':7} {'direct':>7} {'patching':>9}")
for role, heads in published_circuit().items():
    for layer, head in heads:
        direct, patched = published_heads[layer, head], published_patching[layer, head]
        print(f"{role:26} {f'L{layer}H{head}':7} {direct:+7.3f} {patched:+9.3f}")

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
captured = sum(abs(head.value) for head in important_heads)
say(
    f"The {len(important_heads)} heads of largest effect sum to {captured:.2f} of the logit"
    f" difference restored one at a time (absolute values), all {head_patching.numel()} heads to"
    f" {head_patching.abs().sum():.2f}."
)
unexplained = [head.name for head in important_heads if known_kind(head) == "none of the three"]
say(f"Of no simple kind: {', '.join(unexplained) or 'none'}.")

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
def attention_at_S2(source: Int[Tensor, " batch"]) -> Float[Tensor, "layer head"]:
    """Average attention from the second mention of the subject to a position of each prompt."""
    rows, destination = torch.arange(len(prompts)), prompts.positions["S2"]
    return torch.stack(
        [cache["pattern", layer][rows, :, destination, source].mean(0) for layer in layers]
    )


on_task = {
    "induction": attention_at_S2(prompts.positions["S1"] + 1),
    "duplicate token": attention_at_S2(prompts.positions["S1"]),
}
for kind, attention in on_task.items():
    scatter(
        scores[kind],
        attention,
        names=names,
        title=f"Does the {kind} score carry over to our prompts? On the dotted line, in full",
        x=f"{kind} score on repeated random tokens",
        y="attention at S2 to " + ("the token after S1" if kind == "induction" else "S1"),
        diagonal=True,
        height=480,
    )


# %%
def correlation(x: Tensor, y: Tensor) -> float:
    """Over all heads."""
    return torch.corrcoef(torch.stack([x.flatten().float(), y.flatten().float()]))[0, 1].item()


for kind, attention in on_task.items():
    agreement = correlation(scores[kind], attention)
    say(
        f"{kind}: correlation over all heads {agreement:+.2f}: the score accounts for"
        f" {agreement**2:.0%} of how much heads differ in this here. Highest scores:"
    )
    for head in top_heads(scores[kind], 3):
        print(
            f"    {head.name:8} score {head.value:.3f}, here {attention[head.layer, head.head]:.3f}"
        )

# %% [markdown]
# Now the job. An induction head that does its usual work raises the logit of the token that it looks at: at the second
# "John" it would argue for "and". We can ask for exactly that with the attribution from section 6, at another position
# and in another direction. If the heads that *matter* push that token, they are predictors whose side effect is used.
# If they do not, "induction" describes where they look, and something else what they say.

# %%
after_first_mention = prompts.tokens[torch.arange(len(prompts)), prompts.positions["S1"] + 1]
direction = model.tokens_to_residual_directions(after_first_mention)  # [prompt, d_model]
written_at_S2 = cache.stack_head_results(layer=-1, pos_slice=changed_position)
scaled_at_S2 = cache.apply_ln_to_stack(written_at_S2, layer=-1, pos_slice=changed_position)
push = einsum("head batch d_model, batch d_model -> head", scaled_at_S2, direction) / len(prompts)
push = push.reshape(by_head.shape)
scatter(
    scores["induction"],
    push,
    names=names,
    title="Do induction heads argue for what followed the first mention?",
    x="induction score on repeated random tokens",
    y="added at S2 to the logit of the token after S1",
    height=480,
)

# %%
before_the_end = [head for head in ordered if acts_at(head) != prompts.tokens.shape[1] - 1]
print(
    "heads that matter and act before the last token:" if before_the_end else "All act at the end."
)
for head in before_the_end:
    where = prompts.position_labels[acts_at(head)]
    say(
        f"    {head.name}: restores {head.value:+.3f}, acts at {where}; known kind:"
        f" {known_kind(head)}; looks with {on_task['induction'][head[:2]]:.2f} at the token after"
        f" S1 and adds {push[head[:2]]:+.2f} to its logit"
    )
inducing = [head for head in before_the_end if known_kind(head).startswith("induction")]
even_at_S2 = (1 / (prompts.positions["S2"] + 1)).mean()  # of each position that S2 can see
at_work = [head for head in inducing if on_task["induction"][head[:2]] > 2 * even_at_S2]
if at_work:
    say(
        f"\nYes, with a question mark: {', '.join(head.name for head in at_work)}"
        f" matter{'s' if len(at_work) == 1 else ''} for the answer, looking where an induction head"
        " would look. What followed the first mention is of no use at the end; that an earlier"
        " copy was *found* can be, since it tells later heads that this name is repeated."
    )
elif inducing:
    say(
        f"\n{', '.join(head.name for head in inducing)} would be of the kind, and matters, but does"
        " not look there on our prompts."
    )
else:
    print("\nIn this run no induction head is among the early heads that matter.")
unused = [head for head in top_heads(scores["induction"], 5) if abs(head_patching[head[:2]]) < 0.05]
say(
    f"Of the five highest induction scores, {len(unused)} belong to heads that restore less than"
    " 0.05 here" + (f": {', '.join(head.name for head in unused)}." if unused else ".")
)
print("\nGPT-2 small (published): induction score, and logit difference restored")
for head in top_heads(published_scores["induction"], 5):
    print(f"    {head.name:6} {head.value:.3f}  {published_patching[head[:2]]:+.3f}")

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


def silence(
    z: Float[Tensor, "batch pos head d_head"], hook
) -> Float[Tensor, "batch pos head d_head"]:
    """The head writes nothing at the last position."""
    z[:, -1, silenced.head] = 0
    return z


with model.hooks(fwd_hooks=[(f"blocks.{silenced.layer}.attn.hook_z", silence)]):
    ablated_logits, ablated_cache = model.run_with_cache(prompts.tokens)

ablated_logit_diff = logit_diff(ablated_logits, prompts.answer_tokens).item()
naive_prediction = clean_logit_diff.item() - silenced.value
published_names = {
    "clean logit difference": "logit_diff_average",
    "silenced head": "top_name_mover",
    "its direct attribution": "top_name_mover_direct_attribution",
    "naive prediction without it": "ablation_naive_prediction",
    "measured without it": "ablation_logit_diff",
}
measured = [
    clean_logit_diff.item(),
    silenced.name,
    silenced.value,
    naive_prediction,
    ablated_logit_diff,
]
print(
    beside_published(
        {
            what: (ours, published_value(name))
            for (what, name), ours in zip(published_names.items(), measured)
        },
        model.cfg.model_name,
    )
)

# %% [markdown]
# Whom does the difference come from? The same attribution as before, head by head, in both runs, and what changed. (The
# attribution of the second run uses the second run's layer norm.)

# %%
ablated_outputs = ablated_cache.stack_head_results(layer=-1, pos_slice=-1)
by_head_ablated = residual_stack_to_logit_diff(ablated_outputs, ablated_cache, directions)
by_head_ablated = by_head_ablated.reshape(by_head.shape)
change = by_head_ablated - by_head
change[silenced[:2]] = 0  # its own loss is known; leave the scale to the others
head_map(
    torch.stack([by_head, by_head_ablated, change]),
    facet_labels=["before", f"without {silenced.name}", "change of the others"],
    title=f"What each head adds to the logit difference, with and without {silenced.name}",
    value_name="logit difference added",
)

# %%
scatter(
    by_head,
    by_head_ablated,
    names=names,
    title=f"Who changes when {silenced.name} is silent? On the dotted line, nothing changes",
    x="logit difference added before",
    y=f"added without {silenced.name}",
    diagonal=True,
)

# %% [markdown]
# Heads are not all that can change. MLPs after the head see another residual stream, and so does the last layer norm: if
# the stream has become shorter, it is divided by less, and everything that is left counts for more; if longer, for less.
# To keep these apart, we attribute the second run twice, once with the first run's scale and once with its own. In words,
# we count nothing below a tenth of what the silenced head wrote.

# %%
scale_before = cache["ln_final.hook_scale"][:, -1, 0]
scale_after = ablated_cache["ln_final.hook_scale"][:, -1, 0]
ratio = (scale_before / scale_after).mean().item()
print(f"layer norm scale before: {', '.join(f'{scale:.2f}' for scale in scale_before)}")
print(f"layer norm scale after:  {', '.join(f'{scale:.2f}' for scale in scale_after)}")
published_ratio = published_value("ln_scale_ratio_average")
print(f"before / after {ratio:.3f}; GPT-2 small (published) {published_ratio:.3f}")

at_same_scale = residual_stack_to_logit_diff(ablated_outputs, cache, directions)
head_changes = at_same_scale.reshape(by_head.shape) - by_head
head_changes[silenced[:2]] = 0
components_ablated = ablated_cache.decompose_resid(layer=-1, pos_slice=-1)
component_changes = (
    residual_stack_to_logit_diff(components_ablated, cache, directions) - by_component
)
mlp_changes = component_changes[[label.endswith("mlp_out") for label in component_labels]]
whole_at_same_scale = residual_stack_to_logit_diff(components_ablated, cache, directions).sum()
account = {
    f"{silenced.name}'s own share": -silenced.value,
    "other heads": head_changes.sum().item(),
    "MLPs": mlp_changes.sum().item(),
    "layer norm scale": ablated_logit_diff - whole_at_same_scale.item(),
}
total_change = ablated_logit_diff - clean_logit_diff.item()
torch.testing.assert_close(sum(account.values()), total_change, atol=1e-3, rtol=0)
print()
for what, value in {**account, "in all": total_change}.items():
    print(f"{what:20} {value:+.3f}")

# %%
helped = [h for h in top_heads(head_changes, 4) if h.value > 0.1]
hurt = [h for h in top_heads(head_changes, 4, smallest=True) if h.value < -0.1]
published_loss = published_value("logit_diff_average") - published_value("ablation_logit_diff")
published_share = published_value("top_name_mover_direct_attribution")
say(
    f"GPT-2 small (published): silencing {published_value('top_name_mover')} costs"
    f" {published_loss:.2f}, though it writes {published_share:.2f}:"
    f" {1 - published_loss / published_share:.1%} is made up for by others."
)
say(
    f"This run: silencing {silenced.name} costs {-total_change:.2f}, and it writes"
    f" {silenced.value:.2f}."
)
by_heads, by_mlps = (account[part] / silenced.value for part in ("other heads", "MLPs"))
in_all = 1 + total_change / silenced.value
stepped_in = max(by_heads, by_mlps) > 0.1
if in_all > 0.1:
    verdict = "There is backup."
elif in_all > -0.1 and stepped_in:
    verdict = (
        "Some parts step in, others fall back by about as much: in sum there is no backup to"
        " speak of."
    )
elif in_all > -0.1:
    verdict = "Nothing steps in, and the loss is about what was predicted."
elif stepped_in:
    verdict = (
        "Some parts step in, but others fall back by more: in sum the loss is larger than"
        " predicted."
    )
else:
    verdict = "Instead of stepping in, the rest falls back too."
say(
    f"Made up for by other heads: {by_heads:+.1%}; by MLPs: {by_mlps:+.1%}; in all, with the scale:"
    f" {in_all:+.1%}. {verdict}"
)
say(f"Heads that now do more for the answer: {listing(helped) or 'none by more than 0.1'}.")
say(f"Heads that now do less for it: {listing(hurt) or 'none by more than 0.1'}.")
attention = attention_from_end(silenced)
looks = (
    f"{silenced.name} looks with {attention['S2']:.2f} at the second subject, {attention['IO']:.2f}"
    " at the indirect object"
)
right, wrong = on_right[silenced[:2]], on_wrong[silenced[:2]]
if attention["S2"] > max(attention["IO"], 2 * even_share) and wrong < -abs(right):
    say(
        f"{looks} and lowers the wrong name. That is not GPT-2 small's case: what is lost is the"
        " inhibition of the wrong name, and heads that copy the right one do another job."
    )
elif attention["IO"] > max(attention["S2"], 2 * even_share) and right > abs(wrong):
    say(
        f"{looks} and raises the right name, as GPT-2 small's does: a head that copies the same"
        " name could stand in for it."
    )
else:
    say(f"{looks}: neither a name mover nor an inhibitor in the plain sense.")

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
say(published_comparison(model))

# %% [markdown]
# ## 17. Exercises
#
# <details><summary>1. Turn the patching round: corrupted into clean. Does the same list of heads come out?</summary>
#
# Swap `prompts.tokens` and `prompts.corrupted_tokens` in `sweep`, and normalise the other way. Restoring asks which
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
# Call `patch_sweep` with `LogitDiff(prompts.answer_tokens, per_prompt=True)`: it keeps a last axis over prompts. Plot
# the strongest head's eight values. With eight prompts an average can be one outlier.
#
# </details>
