"""Loading a model the way direct logit attribution needs it.

One call, :func:`load_model`, serves GPT-2 small, the embedded SmolLM2-135M, any other name on the
Hugging Face hub that TransformerLens supports, and local folders.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from transformer_lens.model_bridge import TransformerBridge

from helpers.embedded import ModelUnavailableError, embedded_model_folder
from helpers.identity import file_states, remember
from helpers.model_folder import DEFAULT_MODEL, EMBEDDED_MODEL, find_model
from helpers.processing import process_weights


def load_model(
    name: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    device_map: str | dict[str, str | int] | None = None,
    hub_timeout: float = 5.0,
) -> TransformerBridge:
    """Load a model with its weights processed so that every component writes plainly to the logits.

    The weights are rewritten without changing what the model computes (up to a constant added to all
    logits, which no probability sees): layer norm scales and biases are folded into the next linear
    layer; weights that write to a layer-normed residual stream, and the unembedding, are centred;
    value biases move to the output bias; and where the architecture allows (learned positions, one
    key/value head a query head) the attention matrices are refactored into their singular bases, as
    in TransformerLens's IOI demo. See "A Mathematical Framework for Transformer Circuits"
    (Elhage et al., 2021) for why none of this changes the function.

    Args:
        name: ``"gpt2"`` or another hub name, ``"smollm2-135m"`` for the embedded model, or a folder
            in Hugging Face format, best named by a path (``"./my-model"``): a bare name means the hub's
            model first, and one of two parts a folder only if a model is in it. ``None`` takes the
            environment variable ``DEMO_MODEL``; without one, GPT-2 small where it can be had, else the
            embedded model with a printed notice.
        device: where to put it. ``None`` takes ``DEMO_DEVICE``; without one, CUDA if present, else CPU.
        dtype: of the weights. The demos' figures are for float32.
        device_map: passed to TransformerLens, for models larger than one device; excludes ``device``.
        hub_timeout: seconds to wait for the hub to say whether it has the model. A hub that goes silent
            later, while it sends a file, is given up after minutes.

    Returns:
        The model in compatibility mode and in eval mode, ``cfg.model_name`` being its short name.

    Raises:
        ModelUnavailableError: if a model named here or in ``DEMO_MODEL`` cannot be had, or without
            a name neither GPT-2 small nor the embedded model. A named model is never replaced by
            another one.
        ValueError: if both ``device`` and ``device_map`` are given, or the device does not exist.
        NotImplementedError: if the model computes something else once its weights are processed, as
            BitNet, Ernie 4.5 MoE and GPT-OSS do; or if ``device_map`` leaves parts of it on disk or in
            memory that is not the device's.

    Example:
        >>> model = load_model("./my-model")  # a folder; "gpt2" is GPT-2 small
        >>> model.cfg.model_name
        'my-model'
    """
    if device_map is not None and device is not None:
        raise ValueError(f"Give device ({device!r}) or device_map ({device_map!r}), not both.")
    placement = {"device_map": device_map} if device_map else {"device": _choose_device(device)}
    name, folder = _find(name, hub_timeout)
    files = file_states(folder)
    model = TransformerBridge.boot_transformers(str(folder), dtype=dtype, **placement)
    model.cfg.model_name = name
    _check_not_offloaded(model)
    process_weights(model, refactor_factored_attn_matrices=_has_plain_attention(model))
    model.eval()
    remember(model, name, folder, dtype, files)
    return model


def _check_not_offloaded(model: TransformerBridge) -> None:
    """Weights that are fetched when they are needed cannot be rewritten."""
    parts = [name for name, parameter in model.named_parameters() if parameter.device.type == "meta"]
    if parts:
        raise NotImplementedError(
            f"device_map leaves parts of {model.cfg.model_name} off its devices, {parts[0]} for one, "
            "where weights cannot be processed for attribution. Give it more or larger devices, load it "
            "in half precision (dtype=torch.bfloat16), or without processing, by TransformerBridge."
        )


def _has_plain_attention(model: TransformerBridge) -> bool:
    """Whether queries meet keys head by head with nothing (such as a rotation) in between."""
    one_to_one = n_key_value_heads(model) == model.cfg.n_heads
    return model.cfg.positional_embedding_type == "standard" and one_to_one


def n_key_value_heads(model: TransformerBridge) -> int:
    """Heads that keys and values have; in grouped-query attention several query heads share one.

    Example:
        >>> n_key_value_heads(model) <= model.cfg.n_heads
        True
    """
    return model.cfg.n_key_value_heads or model.cfg.n_heads


def _choose_device(device: str | torch.device | None) -> str:
    source = "device" if device is not None else "DEMO_DEVICE"
    wanted = str(device or os.environ.get("DEMO_DEVICE") or "")
    if not wanted:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError as error:
        raise ValueError(
            f"{source}={wanted!r} is no torch device; try 'cpu', 'cuda' or 'cuda:1'."
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{source}={wanted!r}, but torch finds no CUDA device here; use 'cpu'.")
    if kind == "mps":
        warnings.warn(
            "On Apple's MPS, torch has returned silently wrong numbers for this task. "
            "Run on the CPU (device='cpu' or DEMO_DEVICE=cpu) before you believe a figure.",
            stacklevel=3,
        )
    return wanted


def _find(name: str | os.PathLike[str] | None, timeout: float) -> tuple[str, Path]:
    """Short name and folder of the model asked for, or of the best one that can be had."""
    wanted = os.fspath(name) if name is not None else os.environ.get("DEMO_MODEL")
    if wanted:
        return find_model(wanted, timeout)
    try:
        return find_model(DEFAULT_MODEL, timeout)
    except ModelUnavailableError as error:
        folder = _embedded_instead(error)
        print(
            f"NOTE: running {EMBEDDED_MODEL}, the embedded model, because {DEFAULT_MODEL} is not "
            f"here and cannot be fetched: {error.reason}. What you read about this run "
            f"is about {EMBEDDED_MODEL}; set DEMO_MODEL to choose another."
        )
        return EMBEDDED_MODEL, folder


def _embedded_instead(default: ModelUnavailableError) -> Path:
    """The embedded model's folder; where it cannot be had either, an error that says both."""
    try:
        return embedded_model_folder()
    except ModelUnavailableError as error:
        raise ModelUnavailableError(
            f"No model can be had here. {DEFAULT_MODEL}: {default.reason}. {EMBEDDED_MODEL}: {error}",
            reason=f"{DEFAULT_MODEL}: {default.reason}; {EMBEDDED_MODEL}: {error.reason}",
        ) from error
