"""A task as one typed object: prompts, their corrupted variants, answers, and the places that matter.

"The capital of France is the city of" should go on with " Paris" and not with " Rome"; with "Italy" for
"France" it is the other way round. Everything here that measures, patches or draws takes what a task
holds: token ids, a metric, and positions by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from os import PathLike

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.answers import AnswerMetric, Combine, GroupDiff, answer_tensor, checked_combine
from helpers.logit_diff import LogitDiff
from helpers.padding import PaddedTokens
from helpers.rows import Rows, row_numbers
from helpers.task_check import TaskCheck, check_task
from helpers.task_input import (
    Role,
    Side,
    check_answers_differ,
    check_prompts_differ,
    read_table,
    role_positions,
    sides,
    texts,
)
from helpers.tokenizing import answer_ids, prompt_rows, shortened

END = "end"


@dataclass(frozen=True, eq=False, repr=False)  # tensors do not compare to a bool
class Task:
    """Prompts with right and wrong answers, and places in them; made from texts or a table.

    Attributes:
        prompts: the texts.
        corrupted_prompts: of each, the variant in which its right answer is not right.
        answers: (right, wrong) of each prompt, with leading spaces; a side is a text or a tuple of
            texts.
        answer_tokens: token ids of ``answers``: [batch, 2], or [batch, 2, answer] for groups, in which
            -1 fills up the smaller ones.
        positions: by name of a role, where each prompt has it in ``padded.tokens``; "end" is the last
            token.
        padded: token ids and mask of the prompts, of any length.
        padded_corrupted: those of the corrupted prompts.
        str_tokens: each prompt's own tokens, as texts.
        labels: what figures and tables call each prompt.
        combine: how the answers of a group become one number (:mod:`helpers.answers`); ``None`` if each
            side is one token.

    Example:
        >>> task = Task.from_prompts(
        ...     model,
        ...     clean=["When John met Mary, John gave a book to"],
        ...     corrupted=["When John met Mary, Mary gave a book to"],
        ...     right=[" Mary"],
        ...     wrong=[" John"],
        ...     roles={"name": "Mary"},
        ... )
        >>> task
        Task(1 prompts of 11 tokens; right minus wrong logit; roles: name, end)
    """

    prompts: list[str]
    corrupted_prompts: list[str]
    answers: list[tuple[Side, Side]]
    answer_tokens: Int[Tensor, "batch 2"] | Int[Tensor, "batch 2 answer"]
    positions: dict[str, Int[Tensor, " batch"]]
    padded: PaddedTokens
    padded_corrupted: PaddedTokens
    str_tokens: list[list[str]]
    labels: list[str]
    combine: Combine | None = None

    @classmethod
    def from_prompts(
        cls,
        model: TransformerBridge,
        *,
        clean: Sequence[str],
        corrupted: Sequence[str],
        right: Sequence[str | Sequence[str]],
        wrong: Sequence[str | Sequence[str]],
        roles: Mapping[str, Role] | None = None,
        labels: Sequence[str] | None = None,
        combine: Combine | None = None,
        prepend_bos: bool | None = None,
    ) -> Task:
        """A task from plain texts; row ``i`` of every list belongs to prompt ``i``.

        Args:
            model: gives the tokenizer and the device.
            clean: the prompts, each ending where its answer is due.
            corrupted: of each, a variant that differs in what the right answer depends on.
            right, wrong: the answer to each prompt, or a list of answers, as they go on from it: with
                their leading space, if it has one there. Each is one token of the model.
            roles: by name, what matters in a prompt: a text as it stands there, a text with its number
                if it is there more than once ("the#2", or ("the", 2)), or a token position; one for all
                prompts, or a list with one for each. A text of several tokens means its last one. The
                last token of a prompt is "end".
            labels: what figures call each prompt; by default the prompt itself.
            combine: for several answers a side, "summed probability" or "mean logit"
                (:mod:`helpers.answers`).
            prepend_bos: put the beginning-of-sequence token in front; ``None`` for what the model's
                configuration says (``model.cfg.default_prepend_bos``).

        Raises:
            ValueError: naming the prompt, what was expected and what to do, if the lists differ in
                length, an answer is not one token, right and wrong answers or clean and corrupted
                prompts are the same, a role is not in a prompt, or there are groups and ``combine`` does
                not say how to take them.
            TypeError: if something is not a list of texts.

        Warns:
            UserWarning: if an answer would be drawn into the last token of its prompt.
        """
        prompts = texts("clean", clean)
        count = len(prompts)
        corrupted_prompts = texts("corrupted", corrupted, count)
        answers = list(zip(sides("right", right, count), sides("wrong", wrong, count), strict=True))
        rows, corrupted_rows = (
            prompt_rows(model, some, prepend_bos) for some in (prompts, corrupted_prompts)
        )
        check_prompts_differ(prompts, rows, corrupted_rows)
        right_ids, wrong_ids = (
            answer_ids(model, prompts, rows, [pair[side] for pair in answers], prepend_bos)
            for side in (0, 1)
        )
        check_answers_differ(prompts, right_ids, wrong_ids, answers)
        padded = PaddedTokens.of_rows(rows, model.cfg.device)
        found = role_positions(model, prompts, rows, roles or {}, END)
        answer_tokens = answer_tensor(right_ids, wrong_ids)
        return cls(
            prompts=prompts,
            corrupted_prompts=corrupted_prompts,
            answers=[(_plain(pair[0]), _plain(pair[1])) for pair in answers],
            answer_tokens=answer_tokens.to(padded.tokens.device),
            positions={
                name: torch.tensor(at, device=padded.tokens.device) + padded.padding
                for name, at in found.items()
            },
            padded=padded,
            padded_corrupted=PaddedTokens.of_rows(corrupted_rows, model.cfg.device),
            str_tokens=[model.tokenizer.batch_decode([[token] for token in row]) for row in rows],
            labels=prompts if labels is None else texts("labels", labels, count),
            combine=checked_combine(combine, answer_tokens),
        )

    @classmethod
    def from_table(
        cls,
        model: TransformerBridge,
        table: pd.DataFrame | str | PathLike[str],
        *,
        separator: str | None = None,
        combine: Combine | None = None,
        prepend_bos: bool | None = None,
    ) -> Task:
        """A task from a pandas table or a CSV file, with a prompt in each row.

        Args:
            table: with columns ``clean``, ``corrupted``, ``right``, ``wrong``; and, if you like,
                ``role:NAME`` (a text in the prompt), ``position:NAME`` (a token position), and
                ``label``. Others are left aside. A cell of a frame may hold a list of answers.
            separator: what stands between several answers in one cell of text, such as "|".
            combine, prepend_bos: as for :meth:`from_prompts`.

        Raises:
            ValueError, TypeError: as :meth:`from_prompts`; also if columns are missing or a cell is
                empty.
        """
        columns = read_table(table, separator)
        return cls.from_prompts(model, **columns, combine=combine, prepend_bos=prepend_bos)

    def __len__(self) -> int:
        return len(self.prompts)

    def __repr__(self) -> str:
        lengths = self.padded.lengths
        shortest, longest = (int(lengths.min()), int(lengths.max())) if len(self) else (0, 0)
        tokens = f"{longest} tokens" if shortest == longest else f"{shortest} to {longest} tokens"
        sides = {
            None: "right minus wrong logit",
            "summed probability": "right and wrong answers summed in probability, log right minus log "
            "wrong",
            "mean logit": "right and wrong answers averaged in logits, right minus wrong",
        }[self.combine]
        return f"Task({len(self)} prompts of {tokens}; {sides}; roles: {', '.join(self.positions)})"

    @property
    def tokens(self) -> Int[Tensor, "batch pos"]:
        """The prompts as token ids, where position p is the same place in all of them.

        Raises:
            ValueError: naming two prompts, if they differ in length.
        """
        self._check_lengths(self.prompts, self.padded, "prompt")
        return self.padded.tokens

    @property
    def corrupted_tokens(self) -> Int[Tensor, "batch pos"]:
        """The corrupted prompts as token ids, position by position as in ``tokens``.

        Raises:
            ValueError: naming two prompts, if they differ in length.
        """
        self._check_lengths(self.corrupted_prompts, self.padded_corrupted, "corrupted prompt")
        return self.padded_corrupted.tokens

    def _check_lengths(self, compared: Sequence[str], rows: PaddedTokens, what: str) -> None:
        """Whether these are as long as the first clean prompt, all of them."""
        expected = int(self.padded.lengths[0]) if len(self) else 0
        for number, length in enumerate(rows.lengths.tolist()):
            if length != expected:
                raise ValueError(
                    "Positions can be compared only between prompts of one length in tokens: prompt 0 "
                    f"({shortened(self.prompts[0])}) has {expected}, {what} {number} "
                    f"({shortened(compared[number])}) has {length}. Reword one of them; or use what "
                    "compares no positions: the task's padded tokens with their mask (metric, "
                    "attribution of heads at the last token), or by_length(), which gives parts of one "
                    "length (patching of heads at all positions)."
                )

    @property
    def position_labels(self) -> list[str]:
        """``token_index`` of the first prompt's tokens, for the axes of figures.

        Raises:
            ValueError: if the prompts differ in length.
        """
        self._check_lengths(self.prompts, self.padded, "prompt")
        return [f"{text}_{i}" for i, text in enumerate(self.str_tokens[0])]

    @property
    def changed_positions(self) -> list[int]:
        """Positions at which some prompt differs from its corrupted variant.

        Raises:
            ValueError: if prompts, or corrupted ones, differ in length.
        """
        return (self.tokens != self.corrupted_tokens).any(0).nonzero().flatten().tolist()

    @property
    def table(self) -> pd.DataFrame:
        """The prompts, what should follow, and the token that stands for each role."""
        right, wrong = (
            [
                pair[side] if isinstance(pair[side], str) else " ".join(pair[side])
                for pair in self.answers
            ]
            for side in (0, 1)
        )
        columns = {
            "clean": self.prompts,
            "corrupted": self.corrupted_prompts,
            "right": right,
            "wrong": wrong,
        }
        own = {name: (at - self.padded.padding).tolist() for name, at in self.positions.items()}
        roles = {
            name: [f"{tokens[place]!r}" for tokens, place in zip(self.str_tokens, at, strict=True)]
            for name, at in own.items()
        }
        return pd.DataFrame({**columns, **roles}, index=pd.RangeIndex(len(self), name="prompt"))

    def metric(self, *, per_prompt: bool = False) -> AnswerMetric:
        """What is measured: call it on logits at the last token, or hand it to a sweep.

        Args:
            per_prompt: give one value a prompt instead of the average.
        """
        if self.combine is None:
            return LogitDiff(self.answer_tokens, per_prompt)
        return GroupDiff(self.answer_tokens, self.combine, per_prompt)

    def directions(self, model: TransformerBridge) -> Float[Tensor, "batch d_model"]:
        """What :func:`helpers.logit_diff.residual_stack_to_logit_diff` reads the metric by.

        Raises:
            ValueError: for answers that are summed in probability, which no direction measures.
        """
        return self.metric().directions(model)

    def combined_by(self, combine: Combine) -> Task:
        """The same task, with groups of answers combined in another way."""
        return replace(self, combine=checked_combine(combine, self.answer_tokens))

    def select(self, rows: Rows) -> Task:
        """Some of the prompts, in the order given.

        Args:
            rows: as for :func:`helpers.rows.row_numbers`, whose errors this raises.
        """
        chosen = row_numbers(rows, len(self))
        padded = self.padded.select(chosen)
        dropped = self.padded.tokens.shape[1] - padded.tokens.shape[1]
        return replace(
            self,
            prompts=[self.prompts[row] for row in chosen],
            corrupted_prompts=[self.corrupted_prompts[row] for row in chosen],
            answers=[self.answers[row] for row in chosen],
            answer_tokens=self.answer_tokens[chosen],
            positions={name: at[chosen] - dropped for name, at in self.positions.items()},
            padded=padded,
            padded_corrupted=self.padded_corrupted.select(chosen),
            str_tokens=[self.str_tokens[row] for row in chosen],
            labels=[self.labels[row] for row in chosen],
        )

    def by_length(self) -> list[tuple[list[int], Task]]:
        """Parts in which prompts have one length, and their corrupted variants too: rows and task of
        each.

        Nothing in a part is padded, so that every sweep takes it; what it gives for each prompt belongs
        to the rows.
        """
        lengths = list(
            zip(self.padded.lengths.tolist(), self.padded_corrupted.lengths.tolist(), strict=True)
        )
        ordered = sorted(range(len(self)), key=lengths.__getitem__)
        parts = [list(rows) for _, rows in groupby(ordered, key=lengths.__getitem__)]
        return [(rows, self.select(rows)) for rows in parts]

    def check(self, model: TransformerBridge) -> TaskCheck:
        """Can the model do the task? :func:`helpers.task_check.check_task`, with its warnings."""
        return check_task(self, model)


def _plain(side: tuple[str, ...]) -> Side:
    return side[0] if len(side) == 1 else side
