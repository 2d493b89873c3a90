"""Each row of the table of architectures, against what comes out now."""

from __future__ import annotations

import pytest
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

from tests.architectures import BUILT, COLUMNS, NOT_BUILT, TABLE, outcomes, row

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # TransformerLens's, where an oracle freezes the last norm's scale; and about tiny configurations.
    pytest.mark.filterwarnings("ignore:A forward hook edited"),
    pytest.mark.filterwarnings("ignore:.*(config|Config|default|rope|initializ).*"),
]

# One of each kind: as GPT-2, as Llama, a norm's weight left, logits multiplied, squashed, latent
# attention, another model once processed, recurrent layers among others, recurrent layers only.
QUICK = (
    *("GPT2LMHeadModel", "LlamaForCausalLM", "NemotronForCausalLM", "Olmo2ForCausalLM"),
    *("GraniteForCausalLM", "Gemma2ForCausalLM", "DeepseekV2ForCausalLM", "BitNetForCausalLM"),
    *("JambaForCausalLM", "RwkvForCausalLM"),
)


def in_table() -> dict[str, str]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0] == f"| {' | '.join(['architecture', *COLUMNS])} |"
    return {line.split(" | ")[0].removeprefix("| "): line for line in rows[2:]}


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in sorted(BUILT)],
)
def test_row(architecture):
    found = outcomes(architecture)
    written = in_table().get(architecture)
    assert row(architecture, found) == written, "python -m tests.architectures writes the table anew"
    for name, (result, reason) in found.items():
        # A sentence of this project's or TransformerLens's, not an index that was out of range.
        said = "tiny" in reason or "TransformerLens" in reason or "must be some of" in reason
        assert result == "agrees" or (said and "compatibility" not in reason) or name == "loading", (
            reason
        )


def test_every_architecture_is_in_the_table_or_has_a_reason_not_to_be():
    assert list(in_table()) == sorted(BUILT)
    text = TABLE.read_text(encoding="utf-8")
    assert [name for name in SUPPORTED_ARCHITECTURES if name not in text] == []
    assert all(f"- {name}: {why}." in text for name, why in NOT_BUILT.items())


def test_what_this_project_is_about_works_everywhere():
    rows = in_table()
    for name in ("GPT2LMHeadModel", "LlamaForCausalLM"):
        assert "refuses" not in rows[name]
