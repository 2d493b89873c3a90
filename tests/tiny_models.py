"""Tiny random models, built from configs alone: no download, milliseconds to run."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCAB = 61


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Words ``w1`` … ``w60``, one token each; a ``<bos>`` is prepended."""
    words = {"<bos>": 0, **{f"w{i}": i for i in range(1, VOCAB)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<bos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", None, [("<bos>", 0)])
    # add_bos_token: otherwise the bridge would reload the tokenizer from the hub to set it.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        name_or_path="tiny",
        add_bos_token=True,
        bos_token="<bos>",
        eos_token="<bos>",
        pad_token="<bos>",
    )


def tiny_gpt2_hf(n_layers: int = 3, seed: int = 0) -> GPT2LMHeadModel:
    """Learned positions, LayerNorm with biases, one key/value head a query head."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=32,
        n_embd=32,
        n_layer=n_layers,
        n_head=4,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        if "bias" in name or "ln_" in name:  # initialised to constants, which would hide a wrong fold
            torch.nn.init.normal_(parameter, mean=float("ln_" in name and "weight" in name), std=0.3)
    return model


def tiny_llama_hf(n_layers: int = 3, tied: bool = False, seed: int = 0) -> LlamaForCausalLM:
    """Rotary positions, RMSNorm, two query heads to each key/value head."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        max_position_embeddings=32,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return model


# Architectures that differ in a way that patching must notice, with the names of their own sizes.
ODD_ONES = {
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},  # a norm after attention
    "bloom": {"n_layer": 3, "n_head": 4},  # ALiBi, laid out for a batch of one size
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},  # positions and prompts as one axis in the MLP
    "gptj": {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4},  # attention beside the MLP
}


def tiny_odd(model_type: str, seed: int = 0) -> TransformerBridge:
    """One of :data:`ODD_ONES`, three layers of four heads."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    tokens = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(
        model_type, **{**sizes, **tokens, **ODD_ONES[model_type]}, initializer_range=0.3
    )
    config._attn_implementation = "eager"
    return bridge(AutoModelForCausalLM.from_config(config).float())


def random_hf(
    shape: str,
    vocabulary: int,
    positions: int,
    *,
    key_value_heads: int,
    spread: float = 0.3,
    seed: int = 0,
) -> PreTrainedModel:
    """Three layers of four heads in GPT-2's or Llama's shape ("gpt2", "llama"), for a tokenizer.

    Args:
        key_value_heads: of Llama's shape; GPT-2's has one to each head.
        spread: standard deviation of the weights.
    """
    torch.manual_seed(seed)
    sizes = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": spread}
    if shape == "gpt2":
        config = GPT2Config(n_positions=positions, n_embd=32, n_layer=3, n_head=4, **sizes)
        return GPT2LMHeadModel(config)
    config = LlamaConfig(
        max_position_embeddings=positions,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        **sizes,
    )
    return LlamaForCausalLM(config)


def bridge(hf_model: PreTrainedModel, compatible: bool = True) -> TransformerBridge:
    model = TransformerBridge.boot_transformers(
        "tiny", hf_model=hf_model.eval(), tokenizer=tiny_tokenizer(), device="cpu"
    )
    if compatible:
        model.enable_compatibility_mode(disable_warnings=True)
    return model.eval()


def tiny_gpt2(n_layers: int = 3, compatible: bool = True, seed: int = 0) -> TransformerBridge:
    return bridge(tiny_gpt2_hf(n_layers, seed), compatible)


def tiny_llama(
    n_layers: int = 3, compatible: bool = True, tied: bool = False, seed: int = 0
) -> TransformerBridge:
    return bridge(tiny_llama_hf(n_layers, tied, seed), compatible)
