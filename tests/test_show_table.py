"""Tables are shown whole, in one format, and are still tables of numbers."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from helpers.head_scores import Head
from helpers.path_patching import Path
from helpers.tables import head_table, path_table, show_table

TABLE = pd.DataFrame({"effect": [0.5, -1.23456], "what": ["a", 2.0]}, index=["L1H2", "L3H4"])


@pytest.fixture
def shown():
    """What a notebook gets of a table."""
    shell = InteractiveShell.instance()

    def show(table: pd.DataFrame, **options) -> dict[str, str]:
        with capture_output() as captured:
            show_table(table, **options)
        [output] = captured.outputs
        return output.data

    yield show
    shell.clear_instance()


def test_html_and_text_with_the_same_numbers(shown):
    data = shown(TABLE)
    for number in ("0.500", "-1.235", "2.000"):
        assert f"<td>{number}</td>" in data["text/html"]
        assert number in data["text/plain"]
    assert "+0.50" in shown(TABLE, decimals=2, signed=True)["text/html"]


def test_nothing_is_left_out_and_no_setting_is_changed(shown):
    long = pd.DataFrame({f"column {i}": ["x" * 80] * 100 for i in range(25)})
    before = pd.get_option("display.max_rows"), pd.get_option("display.float_format")
    html = shown(long)["text/html"]
    assert html.count("x" * 80) == 2500
    assert "..." not in html
    assert (pd.get_option("display.max_rows"), pd.get_option("display.float_format")) == before
    assert TABLE["effect"].tolist() == [0.5, -1.23456]


def test_a_plain_script_prints_text():
    code = (
        "import pandas as pd; from helpers.tables import show_table;"
        "show_table(pd.DataFrame({'effect': [0.5]}, index=['L1H2']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert [line.split() for line in done.stdout.splitlines()] == [["effect"], ["L1H2", "0.500"]]


def test_heads_with_their_values():
    values = torch.arange(6.0).view(2, 3)
    table = head_table([Head(1, 2, 9.0), (0, 1)], {"written": values, "restored": -values})
    assert table.index.tolist() == ["L1H2", "L0H1"]
    assert table.index.name == "head"
    assert table["written"].tolist() == [5.0, 1.0]
    assert table["restored"].tolist() == [-5.0, -1.0]
    for nowhere in [(2, 0), (-1, 0), (0, -1)]:
        with pytest.raises(IndexError):
            head_table([nowhere], {"written": values})


def test_paths_by_name():
    table = path_table([Path(Head(0, 1, -0.5), "query", Head(2, 0, 0.3))])
    assert table.reset_index().values.tolist() == [["L0H1", "query", "L2H0", -0.5]]
    assert path_table([]).empty
