"""Prompts of unequal length in one batch: padded on the left, so that each ends at the last position.

Run with its mask, ``model(tokens, attention_mask=mask)``, a padded prompt gives at its last token what
it gives alone, if the model keeps to the mask: layers that carry a state from token to token may not
(RWKV, RecurrentGemma), which :func:`check_padding` finds out. Its other tokens stand elsewhere than in a
longer prompt: nothing that compares positions between prompts means anything then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.precision import precision_of
from helpers.probe import called, same_logits, tolerance_of


@dataclass(frozen=True, eq=False)
class PaddedTokens:
    """Token ids of prompts, padded on the left, and a mask.

    Attributes:
        tokens: any token stands where there is padding.
        mask: 1 where a prompt is, its beginning-of-sequence token included; 0 on padding.

    Example:
        >>> padded = PaddedTokens.of_rows([[5, 6], [5, 6, 7]], "cpu")
        >>> padded.mask, padded.lengths
        (tensor([[0, 1, 1],
                [1, 1, 1]]), tensor([2, 3]))
    """

    tokens: Int[Tensor, "batch pos"]
    mask: Int[Tensor, "batch pos"]

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[int]], device: torch.device | str) -> PaddedTokens:
        """From each prompt's own tokens, none of them empty."""
        longest = max(map(len, rows))
        # Masked, so any token would do: a prompt's first one is in every vocabulary.
        tokens = [[row[0]] * (longest - len(row)) + list(row) for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        return cls(torch.tensor(tokens, device=device), torch.tensor(mask, device=device))

    @classmethod
    def unpadded(cls, tokens: Int[Tensor, "batch pos"]) -> PaddedTokens:
        """Prompts of one length."""
        return cls(tokens, torch.ones_like(tokens))

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Of each prompt, in tokens."""
        return self.mask.sum(1)

    @property
    def padding(self) -> Int[Tensor, " batch"]:
        """How many positions of padding stand before each prompt."""
        return self.mask.shape[1] - self.lengths

    @property
    def is_padded(self) -> bool:
        return not bool(self.mask.all())

    def select(self, rows: Sequence[int]) -> PaddedTokens:
        """Some of the prompts, without the padding that all of them have."""
        mask = self.mask[rows]
        start = int((mask.shape[1] - mask.sum(1)).min()) if len(rows) else 0
        return PaddedTokens(self.tokens[rows][:, start:], mask[:, start:])

    @torch.no_grad()
    def final_logits(self, model: TransformerBridge, batch: int = 32) -> Tensor:
        """Logits at each prompt's last token, [batch, vocab].

        Args:
            batch: how many prompts run at once.

        Raises:
            NotImplementedError: if there is padding, and the model does not keep to the mask.
        """
        check_padding(model, self.tokens, self.mask)
        found = []
        for tokens, mask in zip(self.tokens.split(batch), self.mask.split(batch), strict=True):
            masked = {} if bool(mask.all()) else {"attention_mask": mask}
            found.append(model(tokens, **masked)[:, -1])
        return torch.cat(found)


@torch.no_grad()
def check_padding(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]
) -> None:
    """Refuse a model in which padding on the left changes what a prompt gives, its mask notwithstanding.

    Measured on the prompt with the most padding, which is run with it and without.

    Raises:
        NotImplementedError: saying what to do instead.

    Example:
        >>> padded = PaddedTokens.of_rows([[0, 6], [0, 6, 7]], "cpu")
        >>> check_padding(model, padded.tokens, padded.mask)  # nothing is said: the mask is kept to
    """
    if bool(mask.all()):
        return
    row = int(mask.sum(1).argmin())
    start = mask.shape[1] - int(mask[row].sum())
    padded = model(tokens[[row]], attention_mask=mask[[row]])[:, -1]
    alone = model(tokens[[row], start:])[:, -1]
    if not same_logits(padded, alone, tolerance_of(precision_of(model))):
        raise NotImplementedError(
            f"In {called(model)} padding changes what a prompt gives, though it is masked: some layers "
            "carry a state from token to token. Run prompts of one length together, without padding, as "
            "a task's by_length() parts them."
        )
