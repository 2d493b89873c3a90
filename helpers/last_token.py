"""The last token of prompts, run again and again with the keys and values that come before it.

Whatever is changed at the last position alone, an ablation or a patch, changes nothing before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import get_act_name
from transformers import DynamicCache

from helpers.replay import PrefixCache, check_model

NamedHook = tuple[str, Callable[..., Tensor]]


class LastToken:
    """Runs the last token of prompts, or one layer's attention on it.

    Args:
        model: in evaluation mode, without hooks.
        tokens: prompts of one length, without padding.

    Example:
        >>> last = LastToken(model, prompts.tokens)
        >>> torch.allclose(last.logits()[:, 0], logits[:, -1], atol=1e-3)
        True
    """

    def __init__(self, model: TransformerBridge, tokens: Int[Tensor, "prompt pos"]):
        check_model(model)
        self.model, self.tokens = model, tokens[:, -1:]
        keys_and_values = DynamicCache()
        with torch.no_grad():
            model(tokens, past_key_values=keys_and_values)
        self._earlier = PrefixCache(keys_and_values, tokens.shape[1] - 1)

    @torch.no_grad()
    def logits(self, hooks: Sequence[NamedHook] = ()) -> Float[Tensor, "prompt 1 vocab"]:
        """Of a run with these hooks, in which the last position is the only one."""
        with self.model.hooks(fwd_hooks=list(hooks)):
            return self.model(self.tokens, past_key_values=self._earlier)

    @torch.no_grad()
    def attention(
        self, layer: int, stream: Float[Tensor, "row d_model"], hooks: Sequence[NamedHook] = ()
    ) -> dict[str, Float[Tensor, "row ..."]]:
        """What a layer's heads do at the last token if they find this residual stream there.

        Args:
            layer: the one to run.
            stream: entering the layer, for each prompt, once or several times over.
            hooks: on what the layer computes.

        Returns:
            Queries, keys and values ("q", "k", "v"), output ("z"), each [row, 1, head, d_head], and
            "pattern", [row, head, 1, source].

        Raises:
            ValueError: if the rows are not a multiple of the prompts.
        """
        copies, rest = divmod(len(stream), len(self.tokens))
        if rest or not copies:
            raise ValueError(
                f"stream has {len(stream)} rows; expected {len(self.tokens)}, one for each prompt, or a "
                "multiple of it."
            )

        def enter(resid: Float[Tensor, "row 1 d_model"], hook: object) -> Tensor:
            return stream[:, None].to(resid)

        names = {site: get_act_name(site, layer) for site in ("q", "k", "v", "z", "pattern")}
        with self.model.hooks(fwd_hooks=[(get_act_name("resid_pre", layer), enter), *hooks]):
            _, cache = self.model.run_with_cache(
                self.tokens.repeat(copies, 1),
                past_key_values=self._earlier,
                names_filter=set(names.values()).__contains__,
                stop_at_layer=layer + 1,
            )
        return {site: cache[name] for site, name in names.items()}
