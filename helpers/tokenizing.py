"""Tokens of prompts, and of the answers that go on from them, as the model's own tokenizer writes them.

Nothing here assumes that a word, a name or a number is one token. SmolLM2 writes a number digit by
digit, GPT-2 mostly in pairs of digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import chain

from transformer_lens.model_bridge import TransformerBridge


def prompt_rows(
    model: TransformerBridge, prompts: Sequence[str], prepend_bos: bool | None = None
) -> list[list[int]]:
    """Each prompt's own tokens.

    Args:
        prompts: the texts.
        prepend_bos: put the beginning-of-sequence token in front, where there is one; ``None`` for what
            the model's configuration says (``default_prepend_bos``).

    Raises:
        ValueError: naming the prompt, if it has no token or more than the model can read.

    Warns:
        UserWarning: if the tokenizer has no token for something in a prompt.
    """
    rows = []
    for number, prompt in enumerate(prompts):
        row = model.to_tokens(prompt, prepend_bos=prepend_bos, truncate=False)[0].tolist()
        if not 0 < len(row) <= model.cfg.n_ctx:
            raise ValueError(
                f"Prompt {number} ({shortened(prompt)}) has {len(row)} tokens; {model.cfg.model_name} "
                f"reads 1 to {model.cfg.n_ctx}."
            )
        rows.append([int(token) for token in row])
    strange = [number for number, prompt in enumerate(prompts) if is_unknown(model, prompt)]
    if strange:
        more = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
        warnings.warn(
            f"Prompt {strange[0]} ({shortened(prompts[strange[0]])}){more}: {model.cfg.model_name} has "
            f"no token for something in it, and reads {model.tokenizer.unk_token!r} there.",
            stacklevel=4,
        )
    return rows


def is_unknown(model: TransformerBridge, text: str) -> bool:
    """Whether the tokenizer has no token for something in a text, and puts its unknown token there.

    Vocabularies of bytes, as GPT-2's and Llama's, have tokens for everything; those of words (BERT's)
    have not, and any two words that they do not know are one token.
    """
    unknown = model.tokenizer.unk_token_id
    if unknown is None or model.tokenizer.unk_token in text:
        return False
    return unknown in model.tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_ids(
    model: TransformerBridge,
    prompts: Sequence[str],
    rows: Sequence[Sequence[int]],
    answers: Sequence[Sequence[str]],
    prepend_bos: bool | None = None,
) -> list[list[int]]:
    """The token of each answer to each prompt, as it is written after that prompt.

    Args:
        prompts, rows: texts and their tokens.
        answers: of each prompt, with their leading spaces.
        prepend_bos: as the rows were made with.

    Raises:
        ValueError: naming prompt and answer, if an answer is not one token, or not in the vocabulary.

    Warns:
        UserWarning: if an answer would be drawn into the prompt's last token (as when a space at the end
            of a prompt belongs to the next word), so that the model has hardly ever read one after the
            other.
    """
    drawn_in: list[str] = []
    unknown = {answer for answer in {*chain.from_iterable(answers)} if is_unknown(model, answer)}
    found = []
    for number, (prompt, row, texts) in enumerate(zip(prompts, rows, answers, strict=True)):
        ids = []
        wholes = _continued(model, prompt, list(row), texts, prepend_bos)
        for answer, whole in zip(texts, wholes, strict=True):
            tokens = whole[len(row) :]
            if whole[: len(row)] != list(row):
                tokens = model.to_tokens(answer, prepend_bos=False)[0].tolist()
                drawn_in.append(f"{answer!r} after prompt {number} ({shortened(prompt)})")
            if len(tokens) != 1:
                raise ValueError(_not_one_token(model, answer, number, prompt, tokens))
            if answer in unknown:
                raise ValueError(
                    f"The answer {answer!r} to prompt {number} ({shortened(prompt)}) is not in the "
                    f"vocabulary of {model.cfg.model_name}, which reads {model.tokenizer.unk_token!r} "
                    "instead. Choose another answer."
                )
            ids.append(int(tokens[0]))
        found.append(ids)
    if drawn_in:
        _warn_of(drawn_in, model)
    return found


def _continued(
    model: TransformerBridge,
    prompt: str,
    row: list[int],
    answers: Sequence[str],
    prepend_bos: bool | None,
) -> list[list[int]]:
    """Tokens of the prompt with each answer after it, in one call where the tokenizer allows."""
    texts = [prompt, *(prompt + answer for answer in answers)]
    alone, *together = model.tokenizer(texts, add_special_tokens=False)["input_ids"]
    before = row[: len(row) - len(alone)]
    if row == before + alone:
        return [before + ids for ids in together]
    # It adds something to a text, or writes it otherwise, than only what comes before.
    return [
        model.to_tokens(text, prepend_bos=prepend_bos, truncate=False)[0].tolist() for text in texts[1:]
    ]


def _not_one_token(
    model: TransformerBridge, answer: str, number: int, prompt: str, tokens: list[int]
) -> str:
    pieces = [model.tokenizer.decode([token]) for token in tokens]
    return (
        f"The answer {answer!r} to prompt {number} ({shortened(prompt)}) is {len(tokens)} tokens of "
        f"{model.cfg.model_name} ({pieces}), but the metric reads one token after the prompt. Choose "
        "answers of one token, leading space included; or put what they have in common at the end of "
        "the prompt; or give their first tokens, where these differ."
    )


def _warn_of(drawn_in: list[str], model: TransformerBridge) -> None:
    more = f", and {len(drawn_in) - 1} more" if len(drawn_in) > 1 else ""
    warnings.warn(
        f"{drawn_in[0]}{more}: written together they are other tokens of {model.cfg.model_name} than "
        "one after the other, so the model has hardly ever read them like this. Does the prompt end in "
        "a space that belongs to the answer, or lack one?",
        stacklevel=5,
    )


def shortened(text: str, most: int = 60) -> str:
    """A text as an error quotes it: its end is what differs between prompts."""
    return repr(text if len(text) <= most else f"…{text[-most:]}")
