"""Rewriting a model's weights for direct logit attribution, and seeing that it still computes the same.

TransformerLens folds norms and biases into the linear layers that it knows. Where a layer is read by one
that it does not know (a router of Ernie 4.5 MoE, the 1-bit layers of BitNet, the attention sinks of
GPT-OSS), the model that comes out is another one, and nothing says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.identity import PROCESSING
from helpers.precision import in_float, precision_of
from helpers.probe import called, probe_tokens, same_logits


@torch.no_grad()
def process_weights(model: TransformerBridge, **options: bool) -> None:
    """Put the model into TransformerLens's compatibility mode, by :data:`helpers.identity.PROCESSING`.

    Args:
        model: as it was loaded; its logits for a few tokens are compared before and after.
        options: more of ``enable_compatibility_mode``'s, or others than those.

    Raises:
        NotImplementedError: if the model is then another one than before. It is not to be used.
    """
    before = _logits(model)
    with _one_thread():
        model.enable_compatibility_mode(disable_warnings=True, **{**PROCESSING, **options})
    # Rewritten weights are rounded anew: 30 layers in bfloat16 move logits by a fifteenth.
    tolerance = max(1e-3, 25 * torch.finfo(precision_of(model)).eps)
    if not same_logits(_logits(model), before, tolerance):
        raise NotImplementedError(
            f"{called(model)} computes something else once TransformerLens has processed its weights "
            "(folded norms and biases, centred what is written and unembedded): nothing measured here "
            "would be about it. Choose another model; or run this one without processing, by "
            "TransformerBridge.boot_transformers, and look at its own logits only."
        )


def _logits(model: TransformerBridge) -> Float[Tensor, "1 position vocab"]:
    training = model.training
    model.eval()
    logits = in_float(model(probe_tokens(model)))
    model.train(training)
    return logits


@contextmanager
def _one_thread() -> Iterator[None]:
    """For the many small decompositions of rewriting weights, in which threads wait for each other.

    On two cores they take four times as long as one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
