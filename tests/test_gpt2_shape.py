"""Everything runs on GPT-2 small's architecture and files: `make test-gpt2-shape`.

On random weights of its shape, since the real ones cannot be had everywhere: errors fail, outputs are
compared with nothing. What must hold for any weights is asserted.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from jupyter_core.utils import ensure_event_loop
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM

from helpers.ioi.prompts import reference_prompts
from helpers.ioi.published_run import compare, measure, run_prompts
from helpers.ioi.record import published
from helpers.logit_diff import logit_diff
from helpers.models import load_model
from helpers.notebooks.hygiene import check_traces, local_names
from helpers.notebooks.pairing import check_executed
from helpers.notebooks.render import execute, read_source
from tests.gpt2_shape import Checkpoint

pytestmark = pytest.mark.gpt2_shape

ROOT = Path(__file__).parent.parent
DEMOS = sorted((ROOT / "demos").glob("*.py"))
UNABLE = ("gpt2 prefers the right answer on", "The metric is not higher on clean prompts")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@contextmanager
def only_this_hub_on(checkpoint: Checkpoint) -> Iterator[pytest.MonkeyPatch]:
    """For kernels: a hub cache that holds the checkpoint as gpt2, and no network. Lends the settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(checkpoint.hub_cache))
        patch.setenv("HF_HUB_OFFLINE", "1")
        # No pictures: they take seconds each, and do not depend on the model.
        patch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
        # What a demo rightly says of a model that knows nothing.
        patch.setenv("PYTHONWARNINGS", ",".join(f"ignore:{said}" for said in UNABLE))
        yield patch


# --- demos ----------------------------------------------------------------------------------------


def run_demo(source: Path) -> None:
    """Execute a demo as `make render DEMO_MODEL=gpt2` would, and look at what is no finding."""
    notebook = read_source(source)
    execute(notebook, source.parent, "gpt2", title=source.stem)
    assert check_executed(source.name, notebook) == []
    assert check_traces(source.name, notebook, local_names()) == []
    printed = [o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", [])]
    assert any("gpt2" in text for text in printed), "it says which model it ran"


def run_in_thread(source: Path) -> None:
    """As above; Jupyter makes an event loop for each thread, and leaves it open."""
    try:
        run_demo(source)
    finally:
        ensure_event_loop().close()


@pytest.fixture(scope="module")
def demo_runs(gpt2_shaped_checkpoint, request) -> Iterator[dict[Path, Future[None]]]:
    """The demos' runs, two at a time: two kernels with half the cores each make better use of them."""
    wanted = [
        item.callspec.params["source"]
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_demo"
    ]
    with only_this_hub_on(gpt2_shaped_checkpoint) as patch:
        patch.setenv("DEMO_DEVICE", "cpu")
        patch.setenv("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // 2)))
        pool = ThreadPoolExecutor(max_workers=2)
        # The longest is among the last by name; begun last, it would leave a core idle.
        yield {source: pool.submit(run_in_thread, source) for source in reversed(wanted)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("source", DEMOS, ids=lambda source: source.stem)
def test_demo(source, demo_runs):
    demo_runs[source].result()


@pytest.mark.cuda
@pytest.mark.parametrize("source", DEMOS, ids=lambda source: source.stem)
def test_demo_on_cuda(source, gpt2_shaped_checkpoint):
    with only_this_hub_on(gpt2_shaped_checkpoint) as patch:
        patch.setenv("DEMO_DEVICE", "cuda")
        run_demo(source)


def test_there_are_demos():
    assert DEMOS


# --- loading --------------------------------------------------------------------------------------


def test_it_has_the_shape_and_the_tokens_of_gpt2_small(gpt2_shaped):
    cfg = gpt2_shaped.cfg
    assert (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_vocab) == (12, 12, 768, 50257)
    assert (cfg.positional_embedding_type, cfg.model_name) == ("standard", "gpt2")
    tokenizer = gpt2_shaped.tokenizer
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 50256
    assert tokenizer.decode([50256]) == "<|endoftext|>"
    prompts = reference_prompts(gpt2_shaped)
    assert prompts.position_labels == published()["axes"]["position_labels"]


def test_attention_matrices_are_refactored(gpt2_shaped):
    gram = gpt2_shaped.W_O @ gpt2_shaped.W_O.transpose(-1, -2)
    torch.testing.assert_close(gram, torch.eye(64).expand_as(gram), atol=1e-4, rtol=0)


def test_by_name_and_from_a_folder_are_the_same(gpt2_shaped, gpt2_shaped_checkpoint):
    """And another file layout: tensors named with and without the "transformer." in front."""
    folder = load_model(gpt2_shaped_checkpoint.folder, device="cpu")
    tokens = reference_prompts(gpt2_shaped).tokens
    assert folder.cfg.model_name == "gpt2-shaped"
    # The same arithmetic on the same weights; threads may split sums differently.
    torch.testing.assert_close(folder(tokens), gpt2_shaped(tokens), atol=1e-4, rtol=1e-4)


# --- identities -----------------------------------------------------------------------------------


def test_folded_and_unfolded_give_the_same_log_probabilities(gpt2_shaped, gpt2_shaped_checkpoint):
    tokens = reference_prompts(gpt2_shaped).tokens
    folded = gpt2_shaped(tokens).log_softmax(-1)
    plain = AutoModelForCausalLM.from_pretrained(gpt2_shaped_checkpoint.folder)(tokens).logits
    unfolded = TransformerBridge.boot_transformers(
        str(gpt2_shaped_checkpoint.folder), device="cpu", dtype=torch.float32
    )
    # Twelve layers in float32, weights multiplied in another order; values of order ten.
    for theirs in (plain, unfolded(tokens)):
        torch.testing.assert_close(folded, theirs.log_softmax(-1), atol=1e-3, rtol=0)


def test_attributions_sum_to_the_logit_difference(gpt2_shaped):
    run = run_prompts(gpt2_shaped)
    answers = run.prompts.answer_tokens
    measured = logit_diff(run.logits, answers, per_prompt=True)
    bias = gpt2_shaped.b_U[answers[:, 0]] - gpt2_shaped.b_U[answers[:, 1]]
    final = run.cache.apply_ln_to_stack(run.cache["resid_post", -1][None, :, -1], layer=-1, pos_slice=-1)
    whole = (final[0] * run.directions).sum(-1) + bias
    # Sums over 768 float32 products; values of order one to ten.
    close = {"atol": 1e-3, "rtol": 1e-4}
    torch.testing.assert_close(whole, measured, **close)
    stacks = {
        "components": run.cache.decompose_resid(layer=-1, pos_slice=-1),
        "heads and remainder": run.cache.stack_head_results(layer=-1, pos_slice=-1, incl_remainder=True),
    }
    for name, stack in stacks.items():
        scaled = run.cache.apply_ln_to_stack(stack, layer=-1, pos_slice=-1)
        parts = (scaled * run.directions).sum(-1).sum(0) + bias
        assert (parts - measured).abs().max() < 1e-3, name


# --- published figures ----------------------------------------------------------------------------


def test_the_published_figures_can_be_measured_at_full_size(gpt2_shaped):
    agreeing = [deviation.name for deviation in compare(measure(gpt2_shaped)) if not deviation.too_large]
    assert agreeing == ["test_prompt.prompt", "test_prompt.answer"], "random weights agree nowhere"
