"""A task from plain texts: what it holds, what is refused, and that every helper takes it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.accounts import head_attribution
from helpers.ioi.dataset import sample_ioi
from helpers.logit_diff import LogitDiff, residual_stack_to_logit_diff
from helpers.padding import PaddedTokens
from helpers.patching import patch_sweep
from helpers.task import Task
from tests.architectures import tiny
from tests.test_ioi_dataset import WORDS
from tests.tiny_models import tiny_gpt2, tiny_llama

pytestmark = pytest.mark.usefixtures("one_thread")

GIVEN = {
    "clean": ["w1 w10 w2 w10 w3", "w4 w5 w11 w11 w6", "w1 w2 w12 w7 w3"],
    "corrupted": ["w1 w20 w2 w10 w3", "w4 w5 w21 w11 w6", "w1 w2 w22 w7 w3"],
    "right": [" w30", " w31", " w32"],
    "wrong": [" w40", " w41", " w42"],
}
GROUPED = {"right": [[" w30"], [" w31", " w33"], [" w32"]], "wrong": [" w40", " w41", [" w42", " w43"]]}
ROLES = {"verb": ["w2", "w5", "w2"], "number": ["w10#2", ("w11", -1), "w12"], "third": 3}
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama])
def model(request):
    with torch.no_grad():
        yield request.param()


@pytest.fixture
def task(model):
    return Task.from_prompts(model, **GIVEN, roles=ROLES)


def changed(**others):
    return {**GIVEN, **others}


def word_ids(texts):
    return [[0, *(int(word[1:]) for word in text.split())] for text in texts]


# --- what it holds ---------------------------------------------------------------------------------


def test_tokens_and_answers(model, task):
    assert task.prompts == GIVEN["clean"]
    assert task.corrupted_prompts == GIVEN["corrupted"]
    assert task.tokens.tolist() == word_ids(GIVEN["clean"])
    assert task.corrupted_tokens.tolist() == word_ids(GIVEN["corrupted"])
    assert torch.equal(task.tokens, model.to_tokens(GIVEN["clean"]))
    assert task.answers == list(zip(GIVEN["right"], GIVEN["wrong"], strict=True))
    assert task.answer_tokens.tolist() == [[30, 40], [31, 41], [32, 42]]
    assert task.position_labels == ["<bos>_0", "w1_1", "w10_2", "w2_3", "w10_4", "w3_5"]
    assert task.changed_positions == [2, 3]
    assert task.labels == task.prompts
    assert len(task) == 3
    assert repr(task) == (
        "Task(3 prompts of 6 tokens; right minus wrong logit; roles: verb, number, third, end)"
    )


def test_positions(task):
    """Counted in words, after the beginning-of-sequence token."""
    assert {name: at.tolist() for name, at in task.positions.items()} == {
        "verb": [3, 2, 2],
        "number": [4, 4, 3],
        "third": [3, 3, 3],
        "end": [5, 5, 5],
    }


@pytest.mark.parametrize(
    "places", [[1, -2, 3], np.array([1, -2, 3]), torch.tensor([1, -2, 3]), pd.Series([1, -2, 3])]
)
def test_token_positions_one_for_each_prompt(model, places):
    task = Task.from_prompts(model, **GIVEN, roles={"here": places})
    assert task.positions["here"].tolist() == [1, 4, 3]


def test_without_a_beginning_of_sequence_token(model):
    task = Task.from_prompts(model, **GIVEN, roles=ROLES, prepend_bos=False)
    assert task.tokens.tolist() == [row[1:] for row in word_ids(GIVEN["clean"])]
    assert task.positions["verb"].tolist() == [2, 1, 1]
    assert task.positions["third"].tolist() == [3, 3, 3]


def test_whether_there_is_one_is_the_models_to_say(model, monkeypatch):
    monkeypatch.setattr(model.cfg, "default_prepend_bos", False)
    assert Task.from_prompts(model, **GIVEN).tokens.shape == (3, 5)
    assert Task.from_prompts(model, **GIVEN, prepend_bos=True).tokens.shape == (3, 6)


def test_a_text_of_several_tokens_is_its_last_one(model):
    task = Task.from_prompts(model, **GIVEN, roles={"both": ["w10 w2", "w5 w11", "w2 w12 w7"]})
    assert task.positions["both"].tolist() == [3, 3, 4]


@pytest.mark.parametrize("rows", [[2, 0], slice(1, None), torch.tensor([True, False, True])])
def test_select(task, rows):
    part = task.select(rows)
    at = torch.arange(3)[rows].tolist()
    assert part.prompts == [task.prompts[row] for row in at]
    assert part.corrupted_prompts == [task.corrupted_prompts[row] for row in at]
    assert part.answers == [task.answers[row] for row in at]
    assert part.position_labels[1] == task.str_tokens[at[0]][1] + "_1"
    for name in ("tokens", "corrupted_tokens", "answer_tokens"):
        assert torch.equal(getattr(part, name), getattr(task, name)[at])
    for name in task.positions:
        assert torch.equal(part.positions[name], task.positions[name][at])
    assert len(task.select([])) == 0


def test_the_table_shows_the_token_of_each_role(task):
    shown = task.table.loc[1]
    assert shown["clean"] == GIVEN["clean"][1]
    assert (shown["right"], shown["wrong"]) == (" w31", " w41")
    assert shown[["verb", "number", "third", "end"]].tolist() == ["'w5'", "'w11'", "'w11'", "'w6'"]


# --- from a table ----------------------------------------------------------------------------------


def frame():
    return pd.DataFrame(
        {
            **GIVEN,
            "role:verb": ["w2", "w5", "w2"],
            "position:third": [3, 3, 3],
            "label": ["a", "b", "c"],
            "source": ["x", "y", "z"],
        }
    )


def test_from_a_frame_and_from_a_file(model, tmp_path):
    frame().to_csv(tmp_path / "task.csv", index=False)
    for table in (frame(), tmp_path / "task.csv", str(tmp_path / "task.csv")):
        task = Task.from_table(model, table)
        expected = Task.from_prompts(model, **GIVEN, roles={"verb": ["w2", "w5", "w2"], "third": 3})
        assert torch.equal(task.tokens, expected.tokens)
        assert torch.equal(task.answer_tokens, expected.answer_tokens)
        assert {n: p.tolist() for n, p in task.positions.items()} == {
            n: p.tolist() for n, p in expected.positions.items()
        }
        assert task.labels == ["a", "b", "c"]


def test_several_answers_in_a_cell(model, tmp_path):
    cells = frame().assign(right=[" w30", " w31| w33", " w32"])
    cells.to_csv(tmp_path / "task.csv", index=False)
    lists = cells.assign(right=[[" w30"], [" w31", " w33"], [" w32"]])
    for table, separator in ((tmp_path / "task.csv", "|"), (cells, "|"), (lists, None)):
        task = Task.from_table(model, table, separator=separator, combine="mean logit")
        assert task.answer_tokens[1].tolist() == [[31, 33], [41, -1]]
        assert task.answers[:2] == [(" w30", " w40"), ((" w31", " w33"), " w41")]


def test_a_file_is_read_as_text(tmp_path):
    """Not as numbers or missing values: an answer may well be 17, NA or None."""
    from helpers.task_input import read_table

    frame().assign(right=["17", "NA", "None"]).to_csv(tmp_path / "task.csv", index=False)
    assert read_table(tmp_path / "task.csv")["right"] == ["17", "NA", "None"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (frame().drop(columns=["right", "wrong"]), "no column 'right', 'wrong'; it has 'clean'"),
        (frame().assign(right=[" w30", None, " w32"]), "column 'right' in row 1 is empty"),
        (frame().assign(**{"role:verb": ["w2", float("nan"), "w2"]}), "'role:verb' in row 1 is empty"),
        (frame().assign(**{"role:third": "w2"}), "'third' has two columns"),
    ],
)
def test_tables_that_are_refused(model, table, message):
    with pytest.raises(ValueError, match=message):
        Task.from_table(model, table)


# --- metric, attribution, patching ------------------------------------------------------------------


def test_metric_of_single_answers(model, task):
    logits = model(task.tokens)
    expected = logits[:, -1, [30, 31, 32]].diagonal() - logits[:, -1, [40, 41, 42]].diagonal()
    torch.testing.assert_close(task.metric(per_prompt=True)(logits[:, -1]), expected, **CLOSE)
    torch.testing.assert_close(task.metric()(logits[:, -1]), expected.mean(), **CLOSE)


def test_groups_say_how_they_are_combined(model):
    with pytest.raises(ValueError, match=r"several answers a side\. Say how"):
        Task.from_prompts(model, **changed(**GROUPED))
    task = Task.from_prompts(model, **changed(**GROUPED), combine="summed probability")
    assert "summed in probability" in repr(task)
    assert task.answers[1] == ((" w31", " w33"), " w41")
    assert task.answer_tokens.tolist() == [
        [[30, -1], [40, -1]],
        [[31, 33], [41, -1]],
        [[32, -1], [42, 43]],
    ]
    chances = model(task.tokens)[:, -1].softmax(-1)
    expected = (chances[1, 31] + chances[1, 33]).log() - chances[1, 41].log()
    measured = task.metric(per_prompt=True)(model(task.tokens)[:, -1])
    torch.testing.assert_close(measured[1], expected, **CLOSE)
    with pytest.raises(ValueError, match='combine="mean logit"'):
        task.directions(model)
    averaged = task.combined_by("mean logit")
    assert "averaged in logits" in repr(averaged)
    assert averaged.directions(model).shape == (3, model.cfg.d_model)


@pytest.mark.parametrize("given", [GIVEN, changed(**GROUPED)], ids=["pairs", "groups"])
def test_attribution_sums_to_the_metric(model, given):
    task = Task.from_prompts(model, **given, combine="mean logit")
    logits, cache = model.run_with_cache(task.tokens)
    stack = cache.decompose_resid(layer=-1, pos_slice=-1)
    parts = residual_stack_to_logit_diff(stack, cache, task.directions(model), per_prompt=True).sum(0)
    bias = task.metric(per_prompt=True)(model.b_U.expand(3, -1))
    torch.testing.assert_close(parts + bias, task.metric(per_prompt=True)(logits[:, -1]), **CLOSE)


# --- prompts of unequal length ----------------------------------------------------------------------

UNEQUAL = changed(
    clean=["w1 w10 w2 w10 w3", "w11 w6", "w1 w2 w12 w7 w3 w8 w9"],
    corrupted=["w1 w20 w2 w10 w3", "w21 w6", "w1 w2 w22 w7 w3 w8 w9"],
)


@pytest.fixture
def unequal(model):
    return Task.from_prompts(model, **UNEQUAL, roles={"first": ["w1", "w11", "w1"]})


def alone(model, number):
    return Task.from_prompts(
        model, **{name: values[number : number + 1] for name, values in UNEQUAL.items()}
    )


def test_what_compares_positions_refuses_and_names_the_prompts(unequal):
    for attribute in ("tokens", "corrupted_tokens", "position_labels", "changed_positions"):
        with pytest.raises(ValueError, match=r"prompt 0 \('w1 .*has 6, .*prompt 1 \('w.*has 3\. Reword"):
            getattr(unequal, attribute)
    assert "3 to 8 tokens" in repr(unequal)


def test_a_corrupted_prompt_of_another_length(model):
    longer = changed(corrupted=[*GIVEN["corrupted"][:2], "w1 w2 w22 w7 w8 w3"])
    task = Task.from_prompts(model, **longer)
    assert task.tokens.shape == (3, 6)
    with pytest.raises(ValueError, match=r"corrupted prompt 2 \('w1 w2 w22 w7 w8 w3'\) has 7"):
        _ = task.corrupted_tokens
    assert [rows for rows, _ in task.by_length()] == [[0, 1], [2]]


def test_padded_metric_is_that_of_each_prompt_alone(model, unequal):
    for rows in ("padded", "padded_corrupted"):
        together = unequal.metric(per_prompt=True)(getattr(unequal, rows).final_logits(model, batch=2))
        for number in range(3):
            single = alone(model, number)
            assert not getattr(single, rows).is_padded
            tokens = getattr(single, rows).tokens
            expected = single.metric()(model(tokens)[:, -1])
            torch.testing.assert_close(together[number], expected, **CLOSE)


def test_padded_positions(unequal):
    for number, own in enumerate([1, 1, 1]):
        place = unequal.positions["first"][number]
        assert place == own + unequal.padded.padding[number]
        assert unequal.padded.tokens[number, place] == [1, 11, 1][number]
    assert unequal.positions["end"].tolist() == [7, 7, 7]
    part = unequal.select([1, 0])
    assert part.padded.tokens.shape == (2, 6), "padding that no prompt needs is gone"
    assert part.positions["first"].tolist() == [4, 1]


def test_attribution_by_head_is_that_of_each_prompt_alone(model, unequal):
    together = head_attribution(
        model,
        unequal.padded.tokens,
        unequal.metric(),
        attention_mask=unequal.padded.mask,
        batch=2,
    )
    for number in range(3):
        single = alone(model, number)
        _, cache = model.run_with_cache(single.tokens)
        stack = cache.stack_head_results(pos_slice=-1, incl_remainder=False)
        right, wrong = single.answer_tokens.unbind(1)
        expected = cache.logit_attrs(stack, tokens=right, incorrect_tokens=wrong, pos_slice=-1)
        torch.testing.assert_close(together[..., number].flatten(), expected[:, 0], **CLOSE)
    with_padding_read = head_attribution(model, unequal.padded.tokens, unequal.metric())
    assert (with_padding_read - together)[..., 1].abs().max() > 0.01, "the mask matters"


def test_whole_heads_are_patched_by_length(model, unequal):
    """Against each prompt by itself and a plain hook."""
    found = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, 3)
    for rows, part in unequal.by_length():
        found[..., rows] = patch_sweep(
            model, part.corrupted_tokens, part.tokens, "z", part.metric(per_prompt=True)
        )
    for number in range(3):
        single = alone(model, number)
        _, clean = model.run_with_cache(single.tokens)
        for layer, head in [(0, 1), (1, 3), (2, 0)]:

            def patch(z, hook, head=head, clean=clean):
                z[:, :, head] = clean[hook.name][:, :, head]
                return z

            hooks = [(f"blocks.{layer}.attn.hook_z", patch)]
            logits = model.run_with_hooks(single.corrupted_tokens, fwd_hooks=hooks)
            expected = single.metric()(logits[:, -1])
            torch.testing.assert_close(found[layer, head, number], expected, **CLOSE)


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            changed(right=[" w30", " w31 w33", " w32"]),
            ValueError,
            r"answer ' w31 w33' to prompt 1 \('w4 w5.* is 2 tokens of .*\['w31', 'w33'\].*Choose",
        ),
        (changed(right=["", " w31", " w32"]), ValueError, "answer '' to prompt 0 .* is 0 tokens"),
        (
            changed(right=[" w30", " w41", " w32"]),
            ValueError,
            r"prompt 1 .*different.*' w41' and ' w41'",
        ),
        (
            changed(right=[[" w3", " w3"], " w31", " w32"]),
            ValueError,
            "prompt 0 .*' w3' and ' w3' are one",
        ),
        (changed(right=[[], " w31", " w32"]), ValueError, "right has no answer to prompt 0"),
        (
            changed(right=[" w30", " w31"]),
            ValueError,
            "right has 2 entries; expected one for each of the 3",
        ),
        (changed(right=" w30"), TypeError, "right must be a list .*got ' w30'"),
        (changed(right=[1, 2, 3]), TypeError, "right must be texts; for prompt 0 there is 1"),
        (changed(clean="w1 w2"), TypeError, "clean must be a list with one text a prompt; got 'w1 w2'"),
        (changed(clean=[]), ValueError, "clean has 0 entries; expected at least one"),
        (changed(clean=["w1", None, "w2"]), TypeError, "clean must be texts; number 1 is None"),
        (changed(corrupted=GIVEN["corrupted"][:2]), ValueError, "corrupted has 2 entries"),
        (
            changed(corrupted=[*GIVEN["corrupted"][:2], GIVEN["clean"][2]]),
            ValueError,
            r"Prompt 2 \('w1 w2 w12 w7 w3'\) and its corrupted variant are the same.*Change what",
        ),
        (
            changed(clean=["w1 " * 40, *GIVEN["clean"][1:]]),
            ValueError,
            "Prompt 0 .* has 41 tokens; .* 1 to 32",
        ),
        (
            changed(roles={"verb": "w5"}),
            ValueError,
            r"Role 'verb' in prompt 0 \('w1.*'w5' is not in it. Give",
        ),
        (
            changed(roles={"x": "w10"}),
            ValueError,
            "Role 'x' in prompt 0 .*'w10' is in it 2 times.*'w10#1'",
        ),
        (changed(roles={"x": 6}), ValueError, "Role 'x' in prompt 0 .*no token 6; it has 6"),
        (changed(roles={"x": [1, 2]}), ValueError, "'x' has 2 places for 3 prompts"),
        (changed(roles={"x": [1, 2, True]}), TypeError, "'x' in prompt 2 .*got True"),
        (changed(roles={"x": 1.0}), TypeError, "'x' must be a text, a token position, or a list"),
        (changed(roles={"end": 1}), ValueError, "'end' is every prompt's last token already"),
        (changed(labels=["a"]), ValueError, "labels has 1 entries"),
        (changed(**GROUPED, combine="both"), ValueError, "combine must be one of"),
    ],
)
def test_refusals_name_the_prompt_and_what_to_do(model, given, error, message):
    with pytest.raises(error, match=message):
        Task.from_prompts(model, **given)


def test_an_answer_that_grows_together_with_the_prompt_is_warned_of(model):
    """ "w3" and "w30" without a space between them are another word."""
    with pytest.warns(UserWarning, match=r"^'w30' after prompt 0 .*, and 2 more: written") as warned:
        task = Task.from_prompts(model, **changed(right=["w30", "w31", "w32"]))
    assert warned[0].filename == __file__
    assert task.answer_tokens[:, 0].tolist() == [30, 31, 32]


@pytest.fixture
def of_words(model):
    """A tokenizer that puts one token for every word that it does not know, and says so."""
    before, model.tokenizer.unk_token = model.tokenizer.unk_token, "<bos>"
    yield model
    model.tokenizer.unk_token = before


def test_an_answer_that_is_no_word_of_the_model_is_refused(of_words):
    """Any two of them would be one token, and the metric would compare that."""
    with pytest.raises(ValueError, match=r"answer ' zebra' to prompt 1 \('w4.*not in the vocabulary"):
        Task.from_prompts(of_words, **changed(right=[" w30", " zebra", " w32"]))


def test_a_prompt_with_a_word_that_is_none_of_the_models_is_warned_of(of_words):
    clean = ["w1 zebra w2 w10 w3", *GIVEN["clean"][1:]]
    with pytest.warns(UserWarning, match=r"^Prompt 0 \('w1 zebra.* reads '<bos>' there") as warned:
        task = Task.from_prompts(of_words, **changed(clean=clean))
    assert warned[0].filename == __file__
    assert task.tokens[0].tolist() == [0, 1, 0, 2, 10, 3]


def test_the_unknown_token_itself_may_stand_in_a_prompt(of_words):
    task = Task.from_prompts(of_words, **changed(clean=["w1 <bos> w2 w10 w3", *GIVEN["clean"][1:]]))
    assert task.tokens[0].tolist() == [0, 1, 0, 2, 10, 3]


@pytest.mark.filterwarnings("ignore:.*(config|Config|default|initializ).*")
@pytest.mark.parametrize("architecture", ["RwkvForCausalLM", "RecurrentGemmaForCausalLM"])
def test_a_model_that_does_not_keep_to_the_mask_is_refused(architecture):
    """Its padded prompts would give something else, silently; without padding all is well."""
    case = tiny(architecture)
    rows = [[0, 5, 9, 12, 5, 30, 8], [0, 7, 3]]
    with pytest.raises(NotImplementedError, match=rf"\({architecture}\) padding changes .*by_length"):
        PaddedTokens.of_rows(rows, "cpu").final_logits(case.model)
    alone = PaddedTokens.of_rows(rows[:1], "cpu").final_logits(case.model)
    with torch.no_grad():
        theirs = case.alone(torch.tensor(rows[:1])).logits[:, -1]
    torch.testing.assert_close(alone.softmax(-1), theirs.softmax(-1), **CLOSE)


def test_a_model_that_reads_padding_is_refused_by_attribution(model, unequal, monkeypatch):
    """One that takes no notice of the mask."""
    forward = model.forward
    monkeypatch.setattr(
        model,
        "forward",
        lambda tokens, *args, attention_mask=None, **named: forward(tokens, *args, **named),
    )
    with pytest.raises(NotImplementedError, match="padding changes what a prompt gives"):
        head_attribution(
            model, unequal.padded.tokens, unequal.metric(), attention_mask=unequal.padded.mask
        )


# --- can the model do it? ---------------------------------------------------------------------------


def done(model, prompts: int = 12) -> Task:
    """A task that this very model does: what it says to the clean prompt, and what to the corrupted."""
    clean = [f"w1 w{10 + i} w2" for i in range(prompts)]
    corrupted = [f"w1 w{30 + i} w2" for i in range(prompts)]
    best, worst = (model(model.to_tokens(texts))[:, -1].argmax(-1) for texts in (clean, corrupted))
    keep = [i for i in range(prompts) if best[i] != worst[i] and min(best[i], worst[i]) > 0]
    given = {
        "clean": clean,
        "corrupted": corrupted,
        "right": [f" w{token}" for token in best],
        "wrong": [f" w{token}" for token in worst],
    }
    return Task.from_prompts(model, **{name: [v[i] for i in keep] for name, v in given.items()})


def test_a_task_that_is_done_is_not_warned_of(model):
    task = done(model)
    assert len(task) >= 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check = task.check(model)
    clean, corrupted = (
        LogitDiff(task.answer_tokens, per_prompt=True)(model(tokens)[:, -1])
        for tokens in (task.tokens, task.corrupted_tokens)
    )
    torch.testing.assert_close(check.clean, clean, **CLOSE)
    torch.testing.assert_close(check.corrupted, corrupted, **CLOSE)
    table = check.table
    assert list(table.index) == ["clean", "corrupted"]
    assert table.loc["clean", "metric"] == pytest.approx(clean.mean().item(), abs=1e-4)
    assert (
        table.loc["clean", "metric from"]
        < table.loc["clean", "metric"]
        < table.loc["clean", "metric to"]
    )
    assert table.loc["clean", "accuracy"] == 1
    assert table.loc["clean", "accuracy from"] == pytest.approx(
        len(task) / (len(task) + 1.96**2), abs=1e-3
    )
    assert table.loc["corrupted", "accuracy"] == 0
    assert "clean" in str(check)


def test_a_model_that_cannot_do_the_task_is_warned_of(model):
    task = done(model)
    backwards = replace(task, answer_tokens=task.answer_tokens.flip(1))
    worst = int(task.check(model).clean.argmax())
    with pytest.warns(UserWarning, match="on 0 of|not higher") as warned:
        backwards.check(model)
    assert {warning.filename for warning in warned} == {__file__}
    chance, effect = (str(warning.message) for warning in warned)
    assert f"prefers the right answer on 0 of {len(task)} prompts" in chance
    assert "not above chance (0.5)" in chance
    assert f"Worst on prompt {worst} ({task.prompts[worst]!r})" in chance
    assert "choose another model" in chance
    assert "not higher on clean prompts than on corrupted ones: it differs by -" in effect
    assert "corrupt what the right answer depends on" in effect


def test_a_metric_that_does_not_move_is_warned_of(model):
    """Corrupted after the only thing that differs: at a token that no answer depends on any more."""
    task = done(model)
    same = replace(task, padded_corrupted=task.padded)
    with pytest.warns(
        UserWarning, match=r"it differs by \+0.00 \[\+0.00, \+0.00\].*Least on prompt \d+"
    ):
        same.check(model)


def test_three_prompts_are_too_few_to_be_above_chance(model):
    with pytest.warns(UserWarning, match="3 of 3 prompts.*give more"):
        done(model).select([0, 1, 2]).check(model)
    with pytest.raises(ValueError, match="at least two prompts; the task has 1"):
        done(model).select([0]).check(model)


def test_a_check_of_unequal_prompts(model, unequal):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check = unequal.check(model)
    for number in range(3):
        single = alone(model, number)
        torch.testing.assert_close(
            check.clean[number], single.metric()(model(single.tokens)[:, -1]), **CLOSE
        )


# --- IOI is a task ----------------------------------------------------------------------------------


def test_sampled_ioi_as_a_task(model):
    sample = sample_ioi(model, 12, seed=0, words=WORDS)
    task = sample.task(model, sample.third_name)
    assert torch.equal(task.tokens, sample.tokens)
    assert torch.equal(task.corrupted_tokens, sample.third_name)
    assert torch.equal(model.to_tokens(task.corrupted_prompts), sample.third_name)
    assert {name: at.tolist() for name, at in task.positions.items()} == {
        name: at.tolist() for name, at in sample.positions.items()
    }
    again = Task.from_prompts(
        model,
        clean=task.prompts,
        corrupted=task.corrupted_prompts,
        right=[right for right, _ in sample.answers],
        wrong=[wrong for _, wrong in sample.answers],
        roles={"IO": [right.strip() for right, _ in sample.answers]},
    )
    assert torch.equal(again.tokens, task.tokens)
    assert torch.equal(again.answer_tokens, task.answer_tokens)
    assert torch.equal(again.positions["IO"], task.positions["IO"])
    assert again.position_labels == task.position_labels


# --- SmolLM2 ----------------------------------------------------------------------------------------

CAPITALS = {
    "clean": [
        f"The capital of {country} is the city of" for country in ("France", "Italy", "Japan", "Egypt")
    ],
    "corrupted": [
        f"The capital of {country} is the city of" for country in ("Italy", "Japan", "Egypt", "France")
    ],
    "right": [" Paris", " Rome", " Tokyo", " Cairo"],
    "wrong": [" Rome", " Tokyo", " Cairo", " Paris"],
    "roles": {"country": [" France", " Italy", " Japan", " Egypt"], "is": "is"},
}


@pytest.mark.smollm2
def test_capitals_with_the_embedded_model(smollm2):
    task = Task.from_prompts(smollm2, **CAPITALS)
    assert torch.equal(task.tokens, smollm2.to_tokens(CAPITALS["clean"]))
    assert task.changed_positions == [4]
    assert task.positions["country"].tolist() == [4] * 4
    check = task.check(smollm2)
    assert check.accuracy.value == 1
    assert check.clean.min() > 5
    assert check.corrupted.max() < -5


@pytest.mark.smollm2
def test_attribution_and_patching_on_the_embedded_model(smollm2):
    """TransformerLens's own functions, at a sample of sites."""
    model = smollm2
    task = Task.from_prompts(model, **CAPITALS)
    ours = head_attribution(model, task.tokens, task.metric())
    with torch.no_grad():
        _, cache = model.run_with_cache(task.tokens)
    stack = cache.stack_head_results(pos_slice=-1, incl_remainder=False)
    right, wrong = task.answer_tokens.unbind(1)
    theirs = cache.logit_attrs(stack, tokens=right, incorrect_tokens=wrong, pos_slice=-1)
    torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=1e-4, rtol=1e-4)
    sites = {"layers": [3, 20, 27], "heads": [0, 5]}
    swept = patch_sweep(model, task.corrupted_tokens, task.tokens, "z", task.metric(), **sites)
    for row, layer in enumerate(sites["layers"]):
        for column, head in enumerate(sites["heads"]):

            def patch(z, hook, head=head):
                z[:, :, head] = cache[hook.name][:, :, head]
                return z

            hooks = [(f"blocks.{layer}.attn.hook_z", patch)]
            with torch.no_grad():
                logits = model.run_with_hooks(task.corrupted_tokens, fwd_hooks=hooks)
            expected = task.metric()(logits[:, -1])
            torch.testing.assert_close(swept[row, column], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.smollm2
def test_numbers_are_a_token_a_digit_here(smollm2):
    given = {
        "clean": ["The war lasted from the year 1743 to the year 17"] * 2,
        "corrupted": ["The war lasted from the year 1701 to the year 17"] * 2,
    }
    digits = {"right": [list("56789")] * 2, "wrong": [list("0123")] * 2, "roles": {"decade": "174"}}
    task = Task.from_prompts(smollm2, **given, **digits, combine="summed probability")
    places = task.positions["decade"].tolist()
    assert [task.str_tokens[0][place] for place in places] == ["4", "4"]
    with pytest.raises(ValueError, match=r"answer '44' to prompt 0 .* is 2 tokens"):
        Task.from_prompts(smollm2, **given, right=["44"] * 2, wrong=["42"] * 2)
