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
import random
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.utilities import get_act_name
from transformers import DynamicCache

from helpers.head_scores import Head, top_heads
from helpers.intervals import mean_interval
from helpers.ioi import reference_prompts
from helpers.ioi_dataset import sample_ioi
from helpers.logit_diff import (
    LogitDiff,
    logit_diff,
    logit_diff_directions,
    residual_stack_to_logit_diff,
)
from helpers.models import load_model
from helpers.patching import patch_head_outputs
from helpers.plotting import head_map, imshow, intervals, line, waterfall
from helpers.progress import progress_bar
from helpers.reference import beside_published, published_heatmap, published_value
from helpers.replay import PrefixCache
from helpers.tables import show_table
from helpers.wording import say

_ = torch.set_grad_enabled(False)

# %%
model = load_model()
n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
prompts = reference_prompts(model)
logits, cache = model.run_with_cache(prompts.tokens)
clean_diffs = logit_diff(logits, prompts.answer_tokens, per_prompt=True)
clean = clean_diffs.mean().item()
say(
    f"{model.cfg.model_name}: {n_layers} layers of {n_heads} heads; logit difference on"
    f" {len(prompts)} prompts {clean:.3f}"
)

# %% [markdown]
# ## 2. What should it cost, and what does it cost?
#
# **Whom to ablate.** First the head with the largest direct attribution: the obvious choice. It need not be a *name
# mover*, a head that looks at the indirect object (IO) and raises it. So we also look for the largest head that is one.
# In GPT-2 small the two are the same head; if they differ here, we ablate each in turn. A head *looks at* a name, here and
# below, if the name gets more than twice the attention that each position would get if all got the same.


# %%
def written_by_heads(run_cache) -> Float[Tensor, "layer_head prompt d_model"]:
    """What each head writes to the residual stream at the last position."""
    written = [
        torch.einsum("phd,hdm->hpm", run_cache["z", layer][:, -1], model.blocks[layer].attn.W_O)
        for layer in range(n_layers)
    ]
    return torch.cat(written)


directions = logit_diff_directions(model, prompts.answer_tokens)
on_right = model.tokens_to_residual_directions(prompts.answer_tokens[:, 0])
head_outputs = written_by_heads(cache)
by_prompt = residual_stack_to_logit_diff(head_outputs, cache, directions, per_prompt=True)
by_prompt = by_prompt.reshape(n_layers, n_heads, len(prompts))
by_head = by_prompt.mean(-1)
raises_right = residual_stack_to_logit_diff(head_outputs, cache, on_right)
raises_right = raises_right.reshape(n_layers, n_heads)


def attention_to(
    pattern: Float[Tensor, "prompt head dest src"], head: Head, places: list[str]
) -> Float[Tensor, " prompt"]:
    """Attention of a head from the last token to named places, added up."""
    to = pattern[:, head.head, -1]
    return sum(to.gather(1, prompts.positions[place][:, None])[:, 0] for place in places)


even_share = 1 / prompts.tokens.shape[1]


def is_name_mover(head: Head) -> bool:
    """Looks at IO, and more than at the subject, and raises the right name."""
    pattern = cache["pattern", head.layer]
    io, s = (attention_to(pattern, head, places).mean() for places in (["IO"], ["S1", "S2"]))
    return bool(io > max(s, 2 * even_share) and raises_right[head.layer, head.head] > 0)


writers = [head for head in top_heads(by_head, 10) if head.value > 0]
name_mover = next((head for head in writers if is_name_mover(head)), None)
ablated_heads = [writers[0]]
if name_mover is not None and name_mover != writers[0]:
    ablated_heads.append(name_mover)

print(f"largest direct attribution: {writers[0].name} {writers[0].value:+.3f}")
print(
    f"largest name mover: {name_mover.name} {name_mover.value:+.3f}"
    if name_mover
    else f"no name mover among the {len(writers)} largest"
)
if name_mover is not None:
    same = "are the same head" if name_mover == writers[0] else "differ, so we ablate each in turn"
    say(f"The two {same}. (GPT-2 small, published: the same, {published_value('top_name_mover')}.)")

# %% [markdown]
# **The prediction.** Replace the head's output at the last position by zero. If every other part went on as before, the
# logit difference would fall by exactly the head's direct attribution. If it falls less, something made up for the loss
# (*self-repair*); if it falls more, something made it worse. In the rule that puts it into words, a difference counts if
# it is a tenth of the predicted loss or more, and if its interval over prompts leaves out zero.


# %%
def replace_at_end(head: Head, output: Float[Tensor, "prompt d_head"]) -> tuple:
    """A hook: the head's output at the last position is the given one."""

    def replace(
        z: Float[Tensor, "prompt pos head d_head"], hook
    ) -> Float[Tensor, "prompt pos head d_head"]:
        z[:, -1, head.head] = output
        return z

    return get_act_name("z", head.layer), replace


zero = torch.zeros(len(prompts), model.cfg.d_head, device=prompts.tokens.device)
ablated_runs = {}
for head in ablated_heads:
    with model.hooks(fwd_hooks=[replace_at_end(head, zero)]):
        ablated_runs[head] = model.run_with_cache(prompts.tokens)

top = ablated_heads[0]
measured_diffs = {
    head: logit_diff(ablated_logits, prompts.answer_tokens, per_prompt=True)
    for head, (ablated_logits, _) in ablated_runs.items()
}
measured = {head: values.mean().item() for head, values in measured_diffs.items()}
scale_ratio = (
    cache["ln_final.hook_scale"][:, -1] / ablated_runs[top][1]["ln_final.hook_scale"][:, -1]
).mean()
published_clean = published_value("logit_diff_average")
published_direct = published_value("top_name_mover_direct_attribution")
published_ablated = published_value("ablation_logit_diff")
show_table(
    beside_published(
        {
            "head of largest direct attribution": (top.name, published_value("top_name_mover")),
            "its direct attribution": (top.value, published_direct),
            "logit difference": (clean, published_clean),
            "  predicted without the head": (
                clean - top.value,
                published_value("ablation_naive_prediction"),
            ),
            "  measured without the head": (measured[top], published_ablated),
            "share of the loss made up for": (
                1 - (clean - measured[top]) / top.value,
                1 - (published_clean - published_ablated) / published_direct,
            ),
            "final scale, before / after": (
                scale_ratio.item(),
                published_value("ln_scale_ratio_average"),
            ),
        },
        model.cfg.model_name,
    )
)


# %%
def repair_in_words(loss: Float[Tensor, " prompt"], repair: Float[Tensor, " prompt"]) -> str:
    """Whether a loss is made up for, by the rule above."""
    share = (repair.mean() / loss.mean()).item()
    if mean_interval(loss).low <= 0 <= mean_interval(loss).high:
        return "too uncertain to compare with anything"
    _, low, high = mean_interval(repair)
    if abs(share) < 0.1 or low <= 0 <= high:
        return "about what was predicted"
    return "made up for, in part or in whole" if share > 0 else "larger than predicted"


for head in ablated_heads:
    loss = by_prompt[head.layer, head.head]
    repair = measured_diffs[head] - (clean_diffs - loss)
    say(
        f"Without {head.name}: predicted {clean - head.value:.2f}, measured {measured[head]:.2f}."
        f" On these prompts the loss is {repair_in_words(loss, repair)} (made up for:"
        f" {mean_interval(repair)})."
    )

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
# part's own change wrote to the stream, which is its bar. The cell checks the two ends: with all later parts frozen
# nothing but the lost direct effect remains. Freezing *one* part while all others stay free is another experiment,
# because later parts hear of it. We do that next.
#
# </details>


# %%
class Account(NamedTuple):
    """A change in logit difference, by part and prompt.

    All but ``before`` and ``after`` add up to it.
    """

    before: Float[Tensor, " prompt"]
    after: Float[Tensor, " prompt"]
    direct: Float[Tensor, " prompt"]  # of the ablated head itself
    scale: Float[Tensor, " prompt"]
    heads: Float[Tensor, "layer head prompt"]  # the ablated head's own entry is 0
    mlps: Float[Tensor, "layer prompt"]

    @property
    def parts(self) -> Float[Tensor, " prompt"]:
        return self.direct + self.scale + self.heads.sum((0, 1)) + self.mlps.sum(0)


def account_for(
    tokens: Int[Tensor, "prompt pos"],
    answer_tokens: Int[Tensor, "prompt 2"],
    ablations: list[tuple[Head, Float[Tensor, "prompt d_head"]]],
) -> list[Account]:
    """What becomes of the logit difference when a head's output at the last position is replaced.

    Nothing changes before the last position. So the ablated runs take the keys and values there
    from the clean run, and run the last token only.
    """
    needed = {get_act_name(site, layer) for site in ("z", "mlp_out") for layer in range(n_layers)}
    needed |= {"ln_final.hook_scale", get_act_name("resid_post", n_layers - 1)}
    u = logit_diff_directions(model, answer_tokens)

    def run(inputs: Int[Tensor, "prompt some_pos"], kept: DynamicCache, hooks: list) -> tuple:
        with model.hooks(fwd_hooks=hooks):
            run_logits, run_cache = model.run_with_cache(
                inputs, past_key_values=kept, names_filter=needed.__contains__
            )
        by_mlp = torch.stack([run_cache["mlp_out", layer][:, -1] for layer in range(n_layers)])
        written = torch.cat([written_by_heads(run_cache), by_mlp])
        return logit_diff(run_logits, answer_tokens, per_prompt=True), run_cache, written

    keys_and_values = DynamicCache()
    before, clean_cache, clean_written = run(tokens, keys_and_values, [])
    earlier = PrefixCache(keys_and_values, tokens.shape[1] - 1)
    accounts = []
    for head, output in ablations:
        after, ablated_cache, written = run(tokens[:, -1:], earlier, [replace_at_end(head, output)])
        change = residual_stack_to_logit_diff(
            written - clean_written, clean_cache, u, per_prompt=True
        )
        final = ablated_cache["resid_post", -1][None, :, -1]
        own_scale, clean_scale = (
            residual_stack_to_logit_diff(final, scale, u, per_prompt=True)[0]
            for scale in (ablated_cache, clean_cache)
        )
        heads = change[:-n_layers].reshape(n_layers, n_heads, -1)
        direct = heads[head.layer, head.head].clone()
        heads[head.layer, head.head] = 0
        accounts.append(
            Account(before, after, direct, own_scale - clean_scale, heads, change[-n_layers:])
        )
    return accounts


zeroed = [(head, zero) for head in ablated_heads]
accounts = dict(zip(ablated_heads, account_for(prompts.tokens, prompts.answer_tokens, zeroed)))
for head, account in accounts.items():
    torch.testing.assert_close(account.after, measured_diffs[head], atol=1e-3, rtol=0)
    torch.testing.assert_close(account.parts, account.after - account.before, atol=1e-3, rtol=0)
    torch.testing.assert_close(account.direct.mean().item(), -head.value, atol=1e-3, rtol=0)
    unheard = account.heads[: head.layer + 1].abs().max() if head.layer else torch.tensor(0.0)
    torch.testing.assert_close(unheard.item(), 0.0, atol=1e-3, rtol=0)
    total = (account.after - account.before).mean()
    print(
        f"{head.name}: the parts add up to {account.parts.mean():+.4f}, the change is {total:+.4f}"
    )

# %% tags=["thumbnail"]
for head, account in accounts.items():
    change = account.heads.mean(-1)
    shown = [part for part in top_heads(change.abs(), 5) if part.value >= 0.01]
    parts = {f"{head.name} itself": account.direct.mean().item()}
    parts |= {part.name: change[part.layer, part.head].item() for part in shown}
    parts["other heads"] = (
        change.sum() - sum(change[part.layer, part.head] for part in shown)
    ).item()
    parts["MLPs"] = account.mlps.mean(-1).sum().item()
    parts["final scale"] = account.scale.mean().item()
    waterfall(
        parts,
        start=("clean", account.before.mean().item()),
        end="ablated",
        title=(
            f"Where the logit difference goes when {head.name} is zero-ablated at the last position"
        ),
        y="logit difference",
    )

# %%
for head, account in accounts.items():
    heads, mlps = account.heads.mean(-1).sum(), account.mlps.mean(-1).sum()
    scale, lost = account.scale.mean(), account.direct.mean()
    up, down = account.heads.mean(-1).clamp(min=0).sum(), account.heads.mean(-1).clamp(max=0).sum()
    print(f"{head.name}: lost {lost:+.3f}; given back by")
    print(f"  later heads {heads:+.3f} (those that rise {up:+.3f}, those that fall {down:+.3f})")
    print(f"  later MLPs  {mlps:+.3f}")
    print(f"  final scale {scale:+.3f}")
    moved, net = up - down + mlps.abs() + scale.abs(), heads + mlps + scale
    if moved < 0.1 * lost.abs():
        print("  Hardly anything reacts.")
    elif net.abs() < 0.5 * moved:
        say(
            f"  Much reacts ({moved:.2f} in all, signs ignored), and most of it cancels: {net:+.2f}"
            " remains."
        )
    else:
        print(f"  The reactions mostly point one way: {net:+.2f} of {moved:.2f} (signs ignored).")

published_before = published_heatmap("head_attribution")
published_after = published_heatmap("head_attribution_after_ablation")
published_change = published_after - published_before
published_top = top_heads(published_before, 1)[0]
published_change[published_top.layer, published_top.head] = 0
listed = ", ".join(
    f"{h.name}\N{NO-BREAK SPACE}{published_change[h.layer, h.head]:+.3f}"
    for h in top_heads(published_change.abs(), 6)
)
say(
    "\nGPT-2 small (published; each run read with its own scale): heads"
    f" {published_change.sum():+.3f}, of them {listed}; total change"
    f" {published_ablated - published_clean:+.3f} after losing {published_direct:.3f}."
)

# %% [markdown]
# Which heads are those, and were they for or against the answer before? We follow up those of largest change, four at
# most, if they change by a hundredth of the logit difference or more, and if the interval of the change over prompts
# leaves out zero. Eight prompts choose them; section 6 measures them on others.

# %%
changes = {head: account.heads.mean(-1) for head, account in accounts.items()}
head_map(
    torch.stack(list(changes.values())),
    facet_labels=[f"without {head.name}" for head in changes],
    title="Change of each head's direct effect on the logit difference",
    value_name="change in logit difference added",
    annotate=4,
)


# %%
def reacting_to(head: Head, most: int = 4) -> list[Head]:
    """Later heads whose direct effect changes most, largest first."""
    found = []
    for part in top_heads(changes[head], most, by_size=True):
        _, low, high = mean_interval(accounts[head].heads[part.layer, part.head])
        if abs(part.value) >= abs(clean) / 100 and not low <= 0 <= high:
            found.append(part)
    return found


reacting = {head: reacting_to(head) for head in ablated_heads}
for head, found in reacting.items():
    print(f"without {head.name}:" + ("" if found else " no head changes by more than a trace"))
    for part in found:
        was = by_head[part.layer, part.head].item()
        now = was + part.value
        if was * now < 0:
            what = "changes sides"
        elif was < 0:
            what = "a negative head that matters " + ("less" if part.value > 0 else "more")
        else:
            what = "a positive head that steps " + ("in" if part.value > 0 else "back")
        print(f"  {part.name:8} {was:+.3f} -> {now:+.3f} ({part.value:+.3f}): {what}")

# %% [markdown]
# ### Holding parts still
#
# The account says what each part wrote differently. It does not say what would happen if a part could *not* react, since
# later parts hear of it too. So: ablate, hold one part (or all of a kind) at its clean output at the last position, and
# see by how much the logit difference is lower or higher than when everything may react. From here on we run the last token
# only, with the keys and values that the clean run had before it.


# %%
keys_and_values = DynamicCache()
_ = model(prompts.tokens, past_key_values=keys_and_values)
earlier = PrefixCache(keys_and_values, prompts.tokens.shape[1] - 1)


def hold_at_end(site: str, layer: int, number: int | None = None) -> tuple:
    """A hook that keeps a head (``z``) or an MLP (``mlp_out``) at its clean output at the end."""

    def hold(activation: Float[Tensor, "prompt pos ..."], hook) -> Float[Tensor, "prompt pos ..."]:
        at = (slice(None), -1) if number is None else (slice(None), -1, number)
        activation[at] = cache[site, layer][at]
        return activation

    return get_act_name(site, layer), hold


def final_stream(hooks: list) -> Float[Tensor, "1 prompt d_model"]:
    """The residual stream leaving the last block at the last position."""
    kept = get_act_name("resid_post", n_layers - 1)
    with model.hooks(fwd_hooks=hooks):
        _, run_cache = model.run_with_cache(
            prompts.tokens[:, -1:], past_key_values=earlier, names_filter=kept
        )
    return run_cache[kept][None, :, -1]


worth = {}  # of a head's reaction: by how much the logit difference falls if it is held still
for head in ablated_heads:
    ablation = replace_at_end(head, zero)
    all_heads = [hold_at_end("z", layer) for layer in range(head.layer + 1, n_layers)]
    all_mlps = [hold_at_end("mlp_out", layer) for layer in range(head.layer, n_layers)]
    nothing_reacts = residual_stack_to_logit_diff(
        final_stream([ablation, *all_heads, *all_mlps]), cache, directions
    )
    reference = residual_stack_to_logit_diff(
        cache["resid_post", -1][None, :, -1], cache, directions
    )
    torch.testing.assert_close(
        (nothing_reacts - reference).item(), accounts[head].direct.mean().item(), atol=1e-3, rtol=0
    )
    own = accounts[head].heads.mean(-1)
    sets = {part.name: ([hold_at_end("z", *part[:2])], part.value) for part in reacting[head]}
    sets["all later heads"] = (all_heads, own.sum().item())
    sets["all later MLPs"] = (all_mlps, accounts[head].mlps.mean(-1).sum().item())
    print(f"without {head.name}, all parts free to react: {measured[head]:+.3f}")
    for name, (hooks, share) in sets.items():
        with model.hooks(fwd_hooks=[ablation, *hooks]):
            held = model(prompts.tokens[:, -1:], past_key_values=earlier)
        gain = measured[head] - logit_diff(held, prompts.answer_tokens).item()
        worth[head, name] = gain
        print(f"  reaction of {name:16} own share {share:+.3f}, held still {gain:+.3f}")
say(
    "With every later head and MLP held and the clean scale, only the lost direct effect remains"
    " (checked)."
)

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
    layer: int, change: Float[Tensor, "prompt d_model"], inputs: str = "qkv"
) -> dict[str, Float[Tensor, "prompt head d_head"]]:
    """Outputs of a layer's heads at the end, if some or all inputs hear a change of the stream."""
    names = {site: get_act_name(site, layer) for site in ("q", "k", "v", "z")}
    stream = cache["resid_pre", layer][:, -1:] + change[:, None]

    def run_layer(hooks: list) -> dict[str, Tensor]:
        with model.hooks(fwd_hooks=hooks):
            _, kept = model.run_with_cache(
                prompts.tokens[:, -1:],
                past_key_values=earlier,
                names_filter=set(names.values()).__contains__,
                stop_at_layer=layer + 1,
            )
        return {site: kept[name] for site, name in names.items()}

    changed = run_layer([(get_act_name("resid_pre", layer), lambda resid, hook: stream)])
    outputs = {
        site: run_layer([(names[site], lambda _, hook, site=site: changed[site])])["z"]
        for site in inputs
    }
    return {site: z[:, -1] for site, z in {**outputs, "all": changed["z"]}.items()}


def values_of(run_cache, head: Head) -> Float[Tensor, "prompt pos d_head"]:
    """A head's values; heads may share them."""
    values = run_cache["v", head.layer]
    return values[:, :, head.head * values.shape[2] // n_heads]


def effect_of(
    head: Head, z: Float[Tensor, "prompt d_head"], u: Float[Tensor, "prompt d_model"]
) -> float:
    """Direct effect of a head's output along a direction, with the clean scale."""
    written = z @ model.blocks[head.layer].attn.W_O[head.head]
    return residual_stack_to_logit_diff(written[None], cache, u).item()


def removed_by(head: Head) -> Float[Tensor, "prompt d_model"]:
    """What zero-ablating a head at the last position takes out of the stream there."""
    return -cache["z", head.layer][:, -1, head.head] @ model.blocks[head.layer].attn.W_O[head.head]


columns = ["attention", "value", "both at once", "query", "key", "value ", "by way of others"]
rows, row_labels, routes = [], [], {}
for head, found in reacting.items():
    _, ablated_cache = ablated_runs[head]
    receivers = {part.layer for part in found}
    direct = {layer: hear(layer, removed_by(head)) for layer in receivers}
    for layer in receivers:
        whole_change = (ablated_cache["resid_pre", layer] - cache["resid_pre", layer])[:, -1]
        torch.testing.assert_close(
            hear(layer, whole_change, inputs="")["all"],
            ablated_cache["z", layer][:, -1],
            atol=1e-3,
            rtol=1e-3,
        )
    for part in found:
        looks, looks_now = (
            c["pattern", part.layer][:, part.head, -1] for c in (cache, ablated_cache)
        )
        reads, reads_now = (values_of(c, part) for c in (cache, ablated_cache))
        mixed = [
            (looks_now - looks, reads),
            (looks, reads_now - reads),
            (looks_now - looks, reads_now - reads),
        ]
        split = [
            effect_of(part, torch.einsum("bs,bsd->bd", attention, values), directions)
            for attention, values in mixed
        ]
        torch.testing.assert_close(sum(split), part.value, atol=1e-3, rtol=0)

        was = cache["z", part.layer][:, -1, part.head]
        heard = {
            site: effect_of(part, z[:, part.head] - was, directions)
            for site, z in direct[part.layer].items()
        }
        paths = [heard[site] for site in "qkv"]
        rows.append([*split, *paths, part.value - heard["all"]])
        row_labels.append(f"{part.name} without {head.name}")
        routes[head, part] = dict(zip(columns, rows[-1]))
if rows:
    imshow(
        torch.tensor(rows),
        title=(
            "What changes in each reacting head, and through which input it hears of the ablation"
        ),
        x="what changes (left three), and the route by which it hears (right four)",
        y="reacting head",
        x_labels=columns,
        y_labels=row_labels,
        value_name="change in logit difference",
        annotate=len(columns) * len(rows),
        height=300 + 30 * len(rows),
    )
else:
    print("No head reacts, so there is nothing to take apart.")


# %%
def route_of(head: Head, part: Head) -> str:
    """The largest of the four routes, in words."""
    words = {
        "query": "through its query",
        "key": "through its key",
        "value ": "through its value",
        "by way of others": "by way of heads and MLPs in between",
    }
    return words[max(words, key=lambda column: abs(routes[head, part][column]))]


for head, part in routes:
    r = routes[head, part]
    moved = (
        "its attention moves"
        if abs(r["attention"]) > abs(r["value"])
        else "the value it reads changes"
    )
    itself = cache["pattern", part.layer][:, part.head, -1, -1].mean()
    say(
        f"{part.name} without {head.name} ({part.value:+.3f}): {moved} (attention"
        f" {r['attention']:+.3f}, value {r['value']:+.3f}); most of all {route_of(head, part)};"
        f" attention to itself {itself:.2f}."
    )
for found in reacting.values():
    for one in found:
        for other in found:
            same_values = (
                one.layer == other.layer
                and one.head < other.head
                and torch.equal(values_of(cache, one), values_of(cache, other))
            )
            if same_values and one.value * other.value < 0:
                say(
                    f"{one.name} and {other.name} read the same values (shared key/value head) and"
                    f" react with opposite signs: together {one.value + other.value:+.3f}."
                )

# %% [markdown]
# "Most of all" means the largest of the four routes, which need not be most of the whole. The checks in the cell: the three
# left columns add up to the head's bar in the account; and letting a layer hear *all* that changed gives back the ablated
# run's own output.
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
names = sorted(set(prompts.answer_tokens.flatten().tolist()))
all_names = model.tokens_to_residual_directions(torch.tensor(names, device=prompts.tokens.device))
io, s = prompts.answer_tokens.unbind(1)


def absent_name(pair: list[int], offset: int) -> int:
    """One of our names that is not in the prompt."""
    others = [name for name in names if name not in pair]
    return others[offset % len(others)]


absent = torch.tensor(
    [absent_name(pair, number) for number, pair in enumerate(prompts.answer_tokens.tolist())],
    device=io.device,
)
voted = {"IO": (io, ["IO"]), "S": (s, ["S1", "S2"]), "a name not in the prompt": (absent, [])}


def above_names(tokens: Int[Tensor, " prompt"]) -> Float[Tensor, "prompt d_model"]:
    """Direction that raises a name above the average of our names."""
    return model.tokens_to_residual_directions(tokens) - all_names.mean(0)


def with_stream(
    head: Head, stream: Float[Tensor, "case prompt d_model"]
) -> tuple[Float[Tensor, "case prompt d_head"], Float[Tensor, "case prompt src"]]:
    """Output and attention of a head at the last token, if it finds this residual stream there."""
    kept = [get_act_name(site, head.layer) for site in ("z", "pattern")]
    rows = stream.flatten(0, 1)[:, None]
    with model.hooks(fwd_hooks=[(get_act_name("resid_pre", head.layer), lambda resid, hook: rows)]):
        _, run_cache = model.run_with_cache(
            prompts.tokens[:, -1:].repeat(len(stream), 1),
            past_key_values=earlier,
            names_filter=kept.__contains__,
            stop_at_layer=head.layer + 1,
        )
    z, pattern = (run_cache[name].unflatten(0, stream.shape[:2]) for name in kept)
    return z[:, :, -1, head.head], pattern[:, :, head.head, -1]


def react_to_votes(
    head: Head,
    votes: Float[Tensor, "case prompt d_model"],
    tokens: Int[Tensor, " prompt"],
    places: list[str],
) -> tuple[Float[Tensor, " case"], Float[Tensor, " case"]]:
    """Direct effect of a head on a name (above the average name) and attention to it, by vote."""
    z, looks = with_stream(head, cache["resid_pre", head.layer][:, -1] + votes)
    written = z @ model.blocks[head.layer].attn.W_O[head.head]
    effects = residual_stack_to_logit_diff(written, cache, above_names(tokens))
    to_name = torch.zeros(len(votes), device=effects.device)
    for place in places:
        to_name += looks[:, range(len(prompts)), prompts.positions[place]].mean(1)
    return effects, to_name


final_scale = cache["ln_final.hook_scale"][:, -1]  # [prompt, 1]


def vote_for(tokens: Int[Tensor, " prompt"], logits: float) -> Float[Tensor, "prompt d_model"]:
    """What to add to the stream so that the logit lens shows a name higher by so many logits."""
    u = above_names(tokens)
    return logits * final_scale * u / u.pow(2).sum(-1, keepdim=True)


generator = torch.Generator().manual_seed(0)
noise = torch.randn(20, len(prompts), all_names.shape[1], generator=generator).to(io.device)


def random_votes(logits: float) -> Float[Tensor, "draw prompt d_model"]:
    """Vectors as long as the vote for IO, with a random direction for each draw and prompt."""
    length = vote_for(io, 1.0).norm(dim=-1, keepdim=True)
    return logits * length * noise / noise.norm(dim=-1, keepdim=True)


# %% [markdown]
# Whom to test: the most negative heads, the heads we ablated, and all heads that reacted. The numbers are slopes: for one more
# logit of prediction, how much more the head adds to that name, and how much more it looks at it. The random vectors are
# the yardstick: they have no sign of their own, so what is shown is the usual size of a slope by chance (root mean square
# over several draws).

# %%
most_negative = [head for head in top_heads(by_head, 10, smallest=True) if head.layer > 0][:3]
tested = most_negative + ablated_heads
tested += [part for found in reacting.values() for part in found]
tested = sorted({part[:2] for part in tested if part.layer > 0})
tested = [Head(layer, head, by_head[layer, head].item()) for layer, head in tested]
strength = 3.0  # logits of vote, up and down


def slopes(head: Head) -> dict[str, tuple[float, float]]:
    """Change of a head's effect on a name, and of its attention to it, for each logit of vote."""
    found = {}
    for who, (tokens, places) in voted.items():
        votes = torch.stack([vote_for(tokens, strength), vote_for(tokens, -strength)])
        reactions = react_to_votes(head, votes, tokens, places)
        found[who] = tuple(((up - down) / (2 * strength)).item() for up, down in reactions)
    by_chance = []
    votes = torch.cat([random_votes(strength), random_votes(-strength)])
    for reaction in react_to_votes(head, votes, io, ["IO"]):
        up, down = reaction.chunk(2)
        by_chance.append(((up - down) / (2 * strength)).pow(2).mean().sqrt().item())
    found["random"] = tuple(by_chance)
    return found


slope_of = {head[:2]: slopes(head) for head in tested}
imshow(
    torch.tensor(
        [[[slope[who][part] for who in slope] for slope in slope_of.values()] for part in (0, 1)]
    ),
    title="Vote for a name just before a head: does the head answer?",
    x="what is voted for",
    y="head",
    x_labels=["IO", "S", "absent name", "random (size)"],
    y_labels=[head.name for head in tested],
    facet_labels=[
        "its push on that name, per logit of vote",
        "its attention to that name, per logit",
    ],
    value_name="slope",
    annotate=4 * len(tested),
    height=330 + 30 * len(tested),
)

# %% [markdown]
# The same as curves, for the two heads with the steepest answer to a name that is in the prompt: what the head itself
# adds to a name, as the prediction of that name is turned up or down.

# %%
steepest = sorted(
    tested, key=lambda head: slope_of[head[:2]]["IO"][0] + slope_of[head[:2]]["S"][0]
)[:2]
doses = [-6.0, -3.0, 0.0, 3.0, 6.0]
for head in steepest:
    line(
        {
            who: react_to_votes(
                head, torch.stack([vote_for(tokens, dose) for dose in doses]), tokens, places
            )[0]
            for who, (tokens, places) in voted.items()
        },
        title=f"{head.name}: what it adds to a name, against how strongly that name is predicted",
        x="vote for the name, in logits",
        y="logits added to it by the head",
        x_labels=[f"{dose:+.0f}" for dose in doses],
    )


# %% [markdown]
# **In the model's own handwriting.** A vote is our idea of a prediction. The other way to change what is predicted is to
# let the model do it: at the last position, give the head the residual stream of the *partner* prompt, in which the other
# name is the right answer. All earlier positions stay, so the same names stand in the same places to be looked at. A head
# that suppresses what is predicted should now look at S more and at IO less, and its effect on the logit difference should
# change sign. A head that pushes in a fixed direction, or always at one place, should go on as before. (A name mover should
# turn as well: it follows the queries that tell it whom to look for. We say *turns round* if the sign changes and at least
# a quarter of the size is left.)


# %%
def with_partner_stream(head: Head) -> tuple[float, float, float]:
    """Effect on the logit difference, attention to IO and to S, with the partner's stream."""
    partner = [number ^ 1 for number in range(len(prompts))]
    z, looks = with_stream(head, cache["resid_pre", head.layer][None, partner, -1])
    to_io, to_s = (
        sum(looks[0].gather(1, prompts.positions[place][:, None]).mean().item() for place in places)
        for places in (["IO"], ["S1", "S2"])
    )
    return effect_of(head, z[0], directions), to_io, to_s


swapped = {head[:2]: with_partner_stream(head) for head in tested}
print("          effect on the logit difference     attention to IO    attention to S")
print("head      own stream   partner's             own    partner's   own    partner's")
for head in tested:
    effect, to_io, to_s = swapped[head[:2]]
    pattern = cache["pattern", head.layer]
    own_io, own_s = (
        attention_to(pattern, head, places).mean() for places in (["IO"], ["S1", "S2"])
    )
    turns = (
        "turns round"
        if effect * head.value < 0 and abs(effect) > 0.25 * abs(head.value)
        else "does not turn"
    )
    print(
        f"{head.name:8} {head.value:+11.3f}   {effect:+9.3f} {turns:13} "
        f"{own_io:.2f}   {to_io:.2f}        {own_s:.2f}   {to_s:.2f}"
    )

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
def reading(head: Head) -> tuple[float, float]:
    """What full attention to a name adds to it, and how often the name comes out lowest of all.

    The first is in logits above the average name, the second a share of the prompts.
    """
    values = values_of(cache, head)
    effects, lowest = [], []
    for place, tokens in (("IO", io), ("S2", s)):
        at = values[torch.arange(len(prompts)), prompts.positions[place]]
        written = at @ model.blocks[head.layer].attn.W_O[head.head]
        on_names = torch.stack(
            [
                residual_stack_to_logit_diff(
                    written[None], cache, name.expand_as(written), per_prompt=True
                )[0]
                for name in all_names
            ],
            dim=1,
        )  # [prompt, name]
        own = torch.tensor([names.index(token) for token in tokens.tolist()], device=io.device)
        effects.append(on_names.gather(1, own[:, None])[:, 0] - on_names.mean(1))
        lowest.append((on_names.argmin(1) == own).float())
    return torch.cat(effects).mean().item(), torch.cat(lowest).mean().item()


read_by = {head[:2]: reading(head) for head in tested}


def kind_of(head: Head) -> str:
    """Which of the stories a head fits, by the rules above."""
    slope, (on_what_it_reads, lowest) = slope_of[head[:2]], read_by[head[:2]]
    present, looks = ((slope["IO"][part] + slope["S"][part]) / 2 for part in (0, 1))
    if abs(present) < max(0.01, 2 * slope["random"][0]):
        return "does not answer to the prediction; it " + (
            "raises the name it looks at" if on_what_it_reads > 0 else "lowers the name it looks at"
        )
    if present > 0:
        return "votes for what is predicted"
    if slope["a name not in the prompt"][0] < present / 2:
        return "votes against what is predicted, in the prompt or not"
    if looks > 2 * slope["random"][1] and on_what_it_reads < 0 and lowest > 0.5:
        return "copy suppression"
    return "answers to names in the prompt, but not as copy suppression would"


print(
    "                   slope, if the name voted for is              with full attention to a name"
)
print(
    "head      direct   in prompt   absent   by chance   attention   on that name   lowest of all"
)
for head in tested:
    slope, (on_it, lowest) = slope_of[head[:2]], read_by[head[:2]]
    present, looks = ((slope["IO"][i] + slope["S"][i]) / 2 for i in (0, 1))
    absent, by_chance = slope["a name not in the prompt"][0], slope["random"][0]
    print(
        f"{head.name:8} {head.value:+7.3f}   {present:+9.3f}   {absent:+6.3f}   {by_chance:9.3f}   "
        f"{looks:+9.3f}   {on_it:+12.2f}   {lowest:13.2f}"
    )
print()
for kind in dict.fromkeys(kind_of(head) for head in tested):
    say(f"{kind}: {', '.join(head.name for head in tested if kind_of(head) == kind)}")
suppressors = [
    head.name for head in tested if kind_of(head) == "copy suppression" and head.value < 0
]
contrarians = [head.name for head in tested if kind_of(head).startswith("votes against")]
print(f"\nnegative heads that suppress copies: {', '.join(suppressors) or 'none'}")
print(f"heads against any prediction: {', '.join(contrarians) or 'none'}")

# %% [markdown]
# **Is it the prediction that the reacting heads miss?** Of what the ablated head wrote, only a part lies along the
# unembeddings of our names; that part *is* its prediction, as the output reads it. Take only that part out of a reacting
# head's inputs, then only the rest. If the prediction is all that counts, the first does all of it.

# %%
along_names = torch.linalg.qr(all_names.T).Q  # orthonormal, [d_model, name]
print("reaction, if inputs lose   all that was written   its prediction of names   the rest")
for head, part in routes:
    removed = removed_by(head)
    prediction = removed @ along_names @ along_names.T
    was = cache["z", part.layer][:, -1, part.head]
    reactions = [
        effect_of(part, hear(part.layer, change, inputs="")["all"][:, part.head] - was, directions)
        for change in (removed, prediction, removed - prediction)
    ]
    all_of_it, predicting, rest = reactions
    which = f"{part.name}, without {head.name}"
    print(f"{which:24}   {all_of_it:+20.3f}   {predicting:+23.3f}   {rest:+8.3f}")
    routes[head, part]["prediction"] = reactions[1] / reactions[0] if reactions[0] else 0.0

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
many = sample_ioi(model, 200, seed=0)
batches = list(zip(many.tokens.split(25), many.answer_tokens.split(25)))
z_names = {get_act_name("z", head.layer) for head in ablated_heads}
ends = {head: [] for head in ablated_heads}
for tokens, _ in batches:
    _, kept = model.run_with_cache(
        tokens,
        names_filter=z_names.__contains__,
        stop_at_layer=max(head.layer for head in ablated_heads) + 1,
    )
    for head in ablated_heads:
        ends[head].append(kept["z", head.layer][:, -1, head.head])
ends = {head: torch.cat(parts) for head, parts in ends.items()}  # [prompt, d_head]
for prompt in many.prompts[:3]:
    print(prompt)
print(f"… {len(many)} prompts")


# %%
def strangers(seed: int, orders: tuple[bool, ...] = (True, False)) -> list[int]:
    """For each prompt another with neither name in common.

    ``orders``: allow the same order of IO and S (True), the other (False), or both.
    """
    draw = random.Random(seed)
    prompts_of_names = list(enumerate(zip(many.answers, many.order)))
    return [
        draw.choice(
            [
                j
                for j, (other, other_order) in prompts_of_names
                if not {*pair} & {*other} and (order == other_order) in orders
            ]
        )
        for _, (pair, order) in prompts_of_names
    ]


resampled = strangers(seed=1)
replacements = {
    (head, kind): output
    for head, z in ends.items()
    for kind, output in {
        "zero": torch.zeros_like(z),
        "mean": z.mean(0).expand_as(z),
        "resample": z[resampled],
    }.items()
}


def account_for_many(replacements: dict, batches: list[tuple[Tensor, Tensor]]) -> dict:
    """The accounts of several replacements, batch by batch."""
    sizes = [len(tokens) for tokens, _ in batches]
    split = {case: output[: sum(sizes)].split(sizes) for case, output in replacements.items()}
    collected = {case: [] for case in replacements}
    with progress_bar("accounts", len(batches)) as bar:
        for number, (tokens, answer_tokens) in enumerate(batches):
            ablations = [(case[0], outputs[number]) for case, outputs in split.items()]
            for case, account in zip(split, account_for(tokens, answer_tokens, ablations)):
                collected[case].append(account)
            bar.update()
    return {
        case: Account(*(torch.cat(parts, dim=-1).cpu() for parts in zip(*found)))
        for case, found in collected.items()
    }


many_accounts = account_for_many(replacements, batches)
for account in many_accounts.values():
    torch.testing.assert_close(account.parts, account.after - account.before, atol=1e-3, rtol=0)
before = next(iter(many_accounts.values())).before

say(
    f"{len(many)} prompts: logit difference {mean_interval(before)}, right on"
    f" {(before > 0).float().mean():.0%}"
)


# %%
def made_up(account: Account) -> Float[Tensor, " prompt"]:
    """Measured change less the lost direct effect: positive where some loss is made up for."""
    return account.after - account.before - account.direct


parts_of = {
    "lost direct effect": lambda account: account.direct,
    "later heads": lambda account: account.heads.sum((0, 1)),
    "later MLPs": lambda account: account.mlps.sum(0),
    "final scale": lambda account: account.scale,
    "made up, in all": made_up,
}
kinds = ("zero", "mean", "resample")
for head in ablated_heads:
    intervals(
        {
            kind: mean_interval(
                torch.stack([part(many_accounts[head, kind]) for part in parts_of.values()])
            )
            for kind in kinds
        },
        labels=list(parts_of),
        title=f"Replacing {head.name} at the last position, on {len(many)} prompts",
        x="change in logit difference (95 % bootstrap interval)",
        y="",
        horizontal=True,
        height=420,
    )

# %%
for head in ablated_heads:
    print(f"{head.name:8} {'zero':>22} {'mean':>22} {'resample':>22}")
    for name, part in parts_of.items():
        cells = " ".join(
            f"{mean_interval(part(many_accounts[head, kind]))!s:>22}" for kind in kinds
        )
        print(f"  {name:18}{cells}")
    found = {
        kind: repair_in_words(-many_accounts[head, kind].direct, made_up(many_accounts[head, kind]))
        for kind in kinds
    }
    if len(set(found.values())) == 1:
        print(f"  All three kinds agree: the loss is {found['zero']}.")
    else:
        say(
            "  The kinds disagree. "
            + "; ".join(f"{kind}: {word}" for kind, word in found.items())
            + "."
        )

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
by_order = account_for_many(
    {
        (head, kind): ends[head][strangers(seed, orders)]
        for head in ablated_heads
        for kind, seed, orders in (("same", 2, (True,)), ("other", 3, (False,)))
    },
    batches[:4],
)
order_matters, verdicts = {}, {}
print(f"{'reaction of a head':22}   {'same order':22}   {'other order':22}   other less same")
for head, part in routes:
    same, other = (by_order[head, kind].heads[part.layer, part.head] for kind in ("same", "other"))
    sign = other.mean().sign()
    more, twice = mean_interval(sign * (other - same)), mean_interval(sign * (other - 2 * same))
    order_matters[head, part] = not more.low <= 0 <= more.high
    if more.low > 0:
        verdict = "misses a place" if twice.low > 0 else "misses a name and a place"
    elif mean_interval(same).low <= 0 <= mean_interval(same).high:
        verdict = "no reaction to be seen"
    else:
        verdict = "misses a name" + (
            "" if order_matters[head, part] else "; of the order, nothing is to be seen"
        )
    verdicts.setdefault(verdict, []).append(f"{part.name} without {head.name}")
    texts = "   ".join(
        f"{mean_interval(reaction)!s:22}" for reaction in (same, other, other - same)
    )
    print(f"{f'{part.name}, {head.name} replaced':22}   {texts}")
print()
for verdict, such in verdicts.items():
    say(f"{verdict}: {', '.join(such)}")

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
many_by_head = []
written_names = {get_act_name("z", layer) for layer in range(n_layers)} | {"ln_final.hook_scale"}
for tokens, answer_tokens in batches:
    _, kept = model.run_with_cache(tokens, names_filter=written_names.__contains__)
    u = logit_diff_directions(model, answer_tokens)
    many_by_head.append(
        residual_stack_to_logit_diff(written_by_heads(kept), kept, u, per_prompt=True)
    )
many_by_head = torch.cat(many_by_head, dim=-1).reshape(n_layers, n_heads, -1).cpu()

large = top_heads(many_by_head.mean(-1).abs(), 8)
nothing = torch.zeros(*many.tokens.shape, model.cfg.d_head, device=many.tokens.device)
without = patch_head_outputs(
    model,
    many.tokens,
    [head[:2] for head in large],
    [nothing] * len(large),
    LogitDiff(many.answer_tokens, per_prompt=True),
    positions=[many.tokens.shape[1] - 1],
).cpu()
predicted_loss = {head: many_by_head[head.layer, head.head] for head in large}
measured_loss = {head: before - after for head, after in zip(large, without)}
intervals(
    {
        "predicted: direct attribution": mean_interval(torch.stack(list(predicted_loss.values()))),
        "measured by zero ablation": mean_interval(torch.stack(list(measured_loss.values()))),
    },
    labels=[head.name for head in large],
    title=f"What ablating a head should cost, and what it costs ({len(many)} prompts)",
    x="loss of logit difference (95 % bootstrap interval)",
    y="ablated head",
    horizontal=True,
    height=480,
)


# %%
def places_of(head: Head) -> str:
    """The name a head looks at most on the eight prompts, if it looks at any (see section 2)."""
    pattern = cache["pattern", head.layer]
    looks = {p: attention_to(pattern, head, [p]).mean().item() for p in ("IO", "S1", "S2")}
    most = max(looks, key=looks.get)
    return most if looks[most] > 2 * even_share else "no name"


outcome = {}
print(
    f"head      looks at   {'predicted loss':20}   {'measured loss':20}   {'made up':20}    share"
)
for head in large:
    loss, repair = predicted_loss[head], predicted_loss[head] - measured_loss[head]
    outcome[head] = repair_in_words(loss, repair)
    print(
        f"{head.name:8}  {places_of(head):8}   {mean_interval(loss)!s:20}   "
        f"{mean_interval(measured_loss[head])!s:20}   {mean_interval(repair)!s:20}   "
        f"{repair.mean() / loss.mean():+6.2f}"
    )
print()
for words in dict.fromkeys(outcome.values()):
    listed = [f"{h.name} (looks at {places_of(h)})" for h in large if outcome[h] == words]
    say(f"{words}: {', '.join(listed) or 'none'}")
repaired = [h for h in large if outcome[h].startswith("made up for")]
others = [h for h in large if h not in repaired]
if repaired and others and all(places_of(h) == "IO" for h in repaired):
    if all(places_of(h) != "IO" for h in others):
        print("Exactly the heads that look at IO are made up for.")
    else:
        say(
            "All heads that are made up for look at IO, but not all heads that look at IO are made"
            " up for."
        )
if repaired and "about what was predicted" in outcome.values():
    print(
        "So self-repair is not a property of the model as such: it depends on which head is lost."
    )

# %% [markdown]
# *What it does not show.* Heads of small effect, and heads ablated together. A share is a ratio: for a head that hardly
# writes anything it means little, which is why only the largest are listed and the loss stands beside it.

# %% [markdown]
# ## 8. The answers
#
# ### Why do other heads change what they do?

# %%
for head in ablated_heads:
    account = many_accounts[head, "zero"]
    in_words = repair_in_words(-account.direct, made_up(account))
    say(
        f"Losing {head.name} (looks at {places_of(head)}): direct loss"
        f" {mean_interval(-account.direct)}, made up for {mean_interval(made_up(account))}. So the"
        f" loss is {in_words}."
    )
    contributions = {
        name: parts_of[name](account).mean().item()
        for name in ("later heads", "later MLPs", "final scale")
    }
    say("  " + ", ".join(f"{name} {value:+.2f}" for name, value in contributions.items()) + ".")
    against = [name for name in contributions if mean_interval(parts_of[name](account)).high < 0]
    helping = [name for name in contributions if mean_interval(parts_of[name](account)).low > 0]
    if helping and against and in_words == "about what was predicted":
        say(
            f"  It looks as if little happened, but {' and '.join(helping)} give, and"
            f" {' and '.join(against)} take away."
        )
    for part in reacting[head]:
        change = mean_interval(account.heads[part.layer, part.head])
        say(f"  {part.name} changes by {change}, told {route_of(head, part)}; {kind_of(part)}.")
    if not reacting[head]:
        print("  No later head changes by more than a trace.")

# %% [markdown]
# ### Why does a negative head matter less?

# %%
less = [
    (head, part)
    for head in ablated_heads
    for part in reacting[head]
    if by_head[part.layer, part.head] < -abs(clean) / 100 and part.value > 0
]
for head, part in less:
    was = by_head[part.layer, part.head].item()
    say(
        f"{part.name} without {head.name}: {was:+.3f} -> {was + part.value:+.3f}, told"
        f" {route_of(head, part)}."
    )
    if kind_of(part) == "copy suppression":
        looks = [
            attention_to(c["pattern", part.layer], part, ["IO"]).mean()
            for c in (cache, ablated_runs[head][1])
        ]
        say(
            "  It is a copy suppressor: it looks for names that are predicted and lowers the one"
            f" it finds. Its attention to IO goes from {looks[0]:.2f} to {looks[1]:.2f}."
        )
    elif kind_of(part).startswith("votes against"):
        say(
            "  It opposes whatever is predicted, in the prompt or not; less is predicted, so there"
            " is less to oppose."
        )
    else:
        say(f"  Why is not settled here: it {kind_of(part)}.")
    say(
        f"  Held still, it would leave the logit difference {worth[head, part.name]:+.2f} lower;"
        f" all that reacts is worth {measured[head] - clean + head.value:+.2f} on these prompts."
    )
    if abs(routes[head, part]["prediction"]) < 0.5:
        say(
            f"  But of what it hears directly, only {routes[head, part]['prediction']:.0%} is"
            f" {head.name}'s prediction of names as the output reads it."
        )
        if not order_matters[head, part]:
            say(
                "  Nor is it to be seen that the order matters in which a stranger names them: the"
                " rest is no mere place."
            )
if not less:
    print("In this model no negative head matters less after these ablations.")
together = [r for r in routes if abs(routes[r]["by way of others"]) > 0.5 * abs(r[1].value)]
direct_routes = len(routes) - len(together)
say(
    f"\nOf {len(routes)} reactions of a head, {direct_routes} are mostly told by the ablated head"
    f" directly, {len(together)} mostly by way of others."
)

# %% [markdown]
# ### Against the story of GPT-2 small

# %%
top_account = many_accounts[top, "zero"]
top_share = (made_up(top_account).mean() / -top_account.direct.mean()).item()
published_share = 1 - (published_clean - published_ablated) / published_direct
agreements = {
    "the largest writer is a name mover": (name_mover == top, True),
    "its loss is mostly made up for": (
        top_share > 0.5
        and repair_in_words(-top_account.direct, made_up(top_account)).startswith("made up"),
        published_share > 0.5,
    ),
    "a negative head matters less": (bool(less), True),
    "some negative head suppresses copies": (bool(suppressors), True),
}
show_table(
    beside_published(
        {what: tuple("yes" if a else "no" for a in pair) for what, pair in agreements.items()},
        model.cfg.model_name,
    )
)
print("(The last two of GPT-2 small: Wang et al., 2022, and McDougall et al., 2023.)")
differing = [what for what, (ours, theirs) in agreements.items() if ours != theirs]
say("Contradicts the GPT-2 story: " + ("; ".join(differing) or "nothing in this table") + ".")

# %% [markdown]
# ## 9. What remains open
#
# - **Why the MLPs react as they do.** They are one bar here. Neurons, or paths through single MLPs, could be taken apart
#   the same way.
# - **What else a suppressor reads.** Suppression was tested with unembedding vectors, and section 5 took the ablated
#   head's output apart along them. Where the rest weighs as much as the prediction, the head reads something that we
#   have not named.
# - **More than one at a time.** Two heads that stand in for each other show only when both are gone. Ablating pairs is a
#   loop around `account_for`.
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
# Replace `above_names` by the unembedding of, say, `" shops"` less the names' average, and give its position as the
# place. If the head suppresses copies in general, it should answer; if it only deals in names, not.
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
