"""Indirect Object Identification prompts, as a task.

"When John and Mary went to the shops, John gave the bag to" ends in " Mary": the name that is *not*
repeated. The task and its circuit in GPT-2 small are described in "Interpretability in the Wild"
(Wang et al., 2022, arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.padding import PaddedTokens
from helpers.task import Task
from helpers.tokenizing import is_unknown

REFERENCE_TEMPLATES = (
    "When John and Mary went to the shops,{} gave the bag to",
    "When Tom and James went to the park,{} gave the ball to",
    "When Dan and Sid went to the shops,{} gave an apple to",
    "After Martin and Amy went to the park,{} gave a drink to",
)
REFERENCE_NAMES = ((" Mary", " John"), (" Tom", " James"), (" Dan", " Sid"), (" Martin", " Amy"))


def name_positions(
    tokens: Int[Tensor, "batch pos"], answer_tokens: Int[Tensor, "batch 2"]
) -> dict[str, Int[Tensor, " batch"]]:
    """Where each row names its indirect object ("IO") and its subject ("S1", "S2"), and its "end".

    Args:
        tokens: prompts of one length, in which the first answer stands once and the second twice.
        answer_tokens: (indirect object, subject) of each prompt.

    Example:
        >>> tokens = torch.tensor([[0, 7, 5, 2, 7, 3]])  # 7 is named twice
        >>> name_positions(tokens, torch.tensor([[5, 7]]))
        {'IO': tensor([2]), 'S1': tensor([1]), 'S2': tensor([4]), 'end': tensor([5])}
    """
    io, s = ((tokens == answer[:, None]).int() for answer in answer_tokens.unbind(1))
    last = tokens.shape[1] - 1
    return {
        "IO": io.argmax(1),
        "S1": s.argmax(1),
        "S2": last - s.flip(1).argmax(1),
        "end": torch.full_like(io.argmax(1), last),
    }


def reference_prompts(model: TransformerBridge) -> Task:
    """The eight prompts of TransformerLens's Exploratory Analysis demo, tokenized for ``model``.

    Example:
        >>> prompts = reference_prompts(model)
        >>> len(prompts), prompts.answers[:2]
        (8, [(' Mary', ' John'), (' John', ' Mary')])
    """
    return ioi_prompts(model, REFERENCE_TEMPLATES, REFERENCE_NAMES)


def ioi_prompts(
    model: TransformerBridge,
    templates: Sequence[str],
    names: Sequence[tuple[str, str]],
) -> Task:
    """Two prompts a template, one with each name as the indirect object; each corrupts the other.

    So prompts 2i and 2i + 1 differ only in who is repeated.

    Args:
        model: gives the tokenizer and the device.
        templates: texts that mention both names once and have one ``{}`` for the repeated one.
        names: for each template its two names, with leading space, each one token of the model.

    Raises:
        ValueError: with the offending text, if there is no template, the counts disagree, a template
            has no single ``{}`` or does not mention both names once, a name is not one token, or the
            prompts differ in length.

    Example:
        >>> template = "When John and Mary met,{} gave a book to"
        >>> prompts = ioi_prompts(model, [template], [(" Mary", " John")])
        >>> prompts.prompts[1], prompts.answers[1]
        ('When John and Mary met, Mary gave a book to', (' John', ' Mary'))
    """
    if not templates or len(templates) != len(names):
        raise ValueError(
            "Expected at least one template and one pair of names a template; "
            f"got {len(templates)} templates and {len(names)} pairs."
        )
    prompts, answers = [], []
    for template, pair in zip(templates, names, strict=True):
        if template.count("{}") != 1:
            raise ValueError(f"Expected exactly one {{}} in a template; got {template!r}.")
        for indirect_object, subject in (pair, pair[::-1]):
            prompts.append(template.format(subject))
            answers.append((indirect_object, subject))
    answer_tokens = [[_single_token(model, name) for name in pair] for pair in answers]
    tokens = equal_length_tokens(model, prompts)
    check_names_appear(prompts, answers, tokens, torch.tensor(answer_tokens, device=tokens.device))
    partner = [i ^ 1 for i in range(len(prompts))]  # 0 <-> 1, 2 <-> 3, ...
    return ioi_task(
        prompts=prompts,
        corrupted_prompts=[prompts[i] for i in partner],
        answers=answers,
        tokens=tokens,
        corrupted_tokens=tokens[partner],
        answer_tokens=torch.tensor(answer_tokens, device=tokens.device),
        str_tokens=[model.to_str_tokens(row) for row in tokens],
    )


def ioi_task(
    *,
    prompts: Sequence[str],
    corrupted_prompts: Sequence[str],
    answers: Sequence[tuple[str, str]],
    tokens: Int[Tensor, "batch pos"],
    corrupted_tokens: Int[Tensor, "batch pos"],
    answer_tokens: Int[Tensor, "batch 2"],
    str_tokens: Sequence[Sequence[str]],
) -> Task:
    """IOI prompts of one length, whatever they were made by, as a task with IOI's roles.

    Args:
        answers: (indirect object, subject) of each prompt, with their leading spaces. The first is the
            right continuation, the second the tempting wrong one.
        str_tokens: each prompt's tokens, as texts.
        others: as the task has them.

    Example:
        >>> task = ioi_task(
        ...     prompts=prompts.prompts,
        ...     corrupted_prompts=prompts.corrupted_prompts,
        ...     answers=prompts.answers,
        ...     tokens=prompts.tokens,
        ...     corrupted_tokens=prompts.corrupted_tokens,
        ...     answer_tokens=prompts.answer_tokens,
        ...     str_tokens=prompts.str_tokens,
        ... )
        >>> list(task.positions)
        ['IO', 'S1', 'S2', 'end']
    """
    return Task(
        prompts=list(prompts),
        corrupted_prompts=list(corrupted_prompts),
        answers=list(answers),
        answer_tokens=answer_tokens,
        positions=name_positions(tokens, answer_tokens),
        padded=PaddedTokens.unpadded(tokens),
        padded_corrupted=PaddedTokens.unpadded(corrupted_tokens),
        str_tokens=[list(texts) for texts in str_tokens],
        labels=list(prompts),
    )


def _single_token(model: TransformerBridge, name: str) -> int:
    pieces = model.to_str_tokens(name, prepend_bos=False)
    if len(pieces) != 1:
        raise ValueError(
            f"The name {name!r} is {len(pieces)} tokens of {model.cfg.model_name} ({pieces}), but the "
            "logit difference compares single tokens. Choose a name that is one token, leading space "
            "included."
        )
    if is_unknown(model, name):
        raise ValueError(
            f"The name {name!r} is not in the vocabulary of {model.cfg.model_name}, which reads "
            f"{model.tokenizer.unk_token!r} instead. Choose another name."
        )
    return int(model.to_tokens(name, prepend_bos=False)[0, 0])


def equal_length_tokens(model: TransformerBridge, prompts: Sequence[str]) -> Int[Tensor, "batch pos"]:
    """Tokens of prompts, beginning-of-sequence token included.

    Raises:
        ValueError: naming two prompts, if they differ in length.

    Example:
        >>> equal_length_tokens(model, ["John gave Mary", "Mary gave John"]).shape
        torch.Size([2, 4])
    """
    rows = [model.to_tokens(prompt, prepend_bos=True)[0] for prompt in prompts]
    lengths = [len(row) for row in rows]
    for prompt, length in zip(prompts, lengths, strict=True):
        if length != lengths[0]:
            raise ValueError(
                f"Prompts must have equal length in tokens, so that positions correspond: "
                f"{prompts[0]!r} has {lengths[0]}, {prompt!r} has {length}. Reword one of them."
            )
    return torch.stack(rows)


def check_names_appear(
    prompts: Sequence[str],
    answers: Sequence[tuple[str, str]],
    tokens: Int[Tensor, "batch pos"],
    answer_tokens: Int[Tensor, "batch 2"],
) -> None:
    """Refuse prompts that do not name their indirect object once and their subject twice.

    Raises:
        ValueError: naming the first such prompt.

    Example:
        >>> check_names_appear(["A B"], [("A", "B")], torch.tensor([[1, 2]]), torch.tensor([[1, 2]]))
        Traceback (most recent call last):
        ValueError: Expected 'A' once and 'B' twice in 'A B'; found 1 and 1 times. ...
    """
    counts = (tokens[:, None] == answer_tokens[:, :, None]).sum(-1).tolist()
    for prompt, pair, count in zip(prompts, answers, counts, strict=True):
        if count != [1, 2]:
            raise ValueError(
                f"Expected {pair[0]!r} once and {pair[1]!r} twice in {prompt!r}; found {count[0]} and "
                f"{count[1]} times. Mention each name once in the template, after a space, and leave "
                "the repeated one to {}."
            )
