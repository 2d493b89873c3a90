"""Every public helper has an example in its docstring, and every example does what it says.

An example is what a reader copies: Python's own doctest format, in two to six lines or so. What it may
use without a word is what :func:`given` gives, which the API reference says too.
"""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from io import StringIO
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from helpers.display import ShownFigure
from helpers.ioi.dataset import ENGLISH
from helpers.ioi.prompts import REFERENCE_TEMPLATES, reference_prompts
from helpers.notebooks import api
from helpers.tasks import capitals, docstrings, greater_than

pytestmark = pytest.mark.usefixtures("one_thread")

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LONGEST = 11  # lines


def public_helpers() -> Iterator[str]:
    for page in api.PAGES:
        for module in page.modules:
            yield from (f"{module}.{name}" for name in api.public_names(import_module(module)))


def example_of(name: str) -> doctest.DocTest:
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    home = inspect.unwrap(value).__module__
    text = inspect.getdoc(value) or ""
    return doctest.DocTestParser().get_doctest(text, vars(import_module(home)).copy(), name, home, 0)


# --- what examples may use ------------------------------------------------------------------------


def english_tokenizer() -> PreTrainedTokenizerFast:
    """The words of the sampled prompts and the digits, one token each; a beginning of sequence."""
    texts = [*REFERENCE_TEMPLATES, *ENGLISH.frames, *ENGLISH.names, *ENGLISH.places, *ENGLISH.objects]
    texts += ["Dan Sid Amy 0123456789"]
    for words_of in (capitals.ENGLISH, docstrings.ENGLISH, greater_than.ENGLISH):
        for words in vars(words_of).values():
            texts += [*words.keys(), *words.values()] if isinstance(words, dict) else words
    cut = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    words = dict.fromkeys(word for text in texts for word, _ in cut.pre_tokenize_str(_filled(text)))
    vocabulary = {word: index for index, word in enumerate(["<bos>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<bos>"))
    tokenizer.pre_tokenizer = cut
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", None, [("<bos>", 0)])
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<bos>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, name_or_path="tiny", add_bos_token=True, **special
    )


def _filled(frame: str) -> str:
    """With words for its blanks, so that what stands beside them is cut as in a prompt."""
    return re.sub(r"{\w*}", " file", frame)


def english_gpt2(vocabulary: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": vocabulary,
        "n_positions": 64,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "initializer_range": 0.3,
    }
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """A model, IOI prompts for it, and what a run on them leaves; and a folder with the model in it."""
    tokenizer = english_tokenizer()
    hf_model = english_gpt2(len(tokenizer))
    folder = tmp_path_factory.mktemp("examples")
    hf_model.save_pretrained(folder / "my-model")
    tokenizer.save_pretrained(folder / "my-model")
    model = TransformerBridge.boot_transformers(
        "tiny", hf_model=hf_model, tokenizer=tokenizer, device="cpu"
    )
    model.enable_compatibility_mode(disable_warnings=True)
    model.eval()
    prompts = reference_prompts(model)
    with torch.no_grad():
        logits, cache = model.run_with_cache(prompts.tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(ShownFigure, "show_now", lambda figure: None)
        yield {"model": model, "prompts": prompts, "logits": logits, "cache": cache, "torch": torch}


# --- the examples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(public_helpers()))
def test_every_public_helper_has_an_example_that_holds(name, given):
    example = example_of(name)
    assert example.examples, f"{name} has no example: end its docstring with `Example:` and `>>>` lines"
    verb = name.rpartition(".")[2]
    if verb.islower():  # an object of a class may be made by what others call
        assert any(verb in part.source for part in example.examples), f"the example of {name} lacks it"
    lines = sum(part.source.count("\n") for part in example.examples)
    assert lines <= LONGEST, f"the example of {name} has {lines} lines"
    example.globs |= given
    said = StringIO()
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.write)
    assert not said.getvalue(), said.getvalue()


def test_the_reference_says_what_examples_may_use(given):
    text = api.index_text()
    assert all(f"``{name}``" in text for name in given)


@pytest.mark.parametrize(
    ("text", "says"),
    [(">>> 1 + 1\n3", "Expected:"), (">>> no_such", "NameError"), (">>> [1, 2]\n[1, ...]", "")],
)
def test_an_example_that_does_not_hold_fails(text, says):
    example = doctest.DocTestParser().get_doctest(text, {}, "x", "x", 0)
    said = StringIO()
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.write)
    assert (says in said.getvalue()) if says else not said.getvalue()
