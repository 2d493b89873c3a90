"""Long code cells are found, and how they are counted is what the reader sees."""

from __future__ import annotations

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers.notebooks.cells import cell_lengths, check_lengths

NOTEBOOK = new_notebook(
    cells=[
        new_code_cell("a = 1\n\n  \n# why\nb = 2"),
        new_markdown_cell("text\n" * 50),
        new_code_cell("x\n" * 26),
        new_code_cell("x\n\n" * 25),
        new_code_cell("1"),
    ]
)


def test_lines_that_are_not_empty_are_counted():
    assert cell_lengths(NOTEBOOK).lines == [3, 26, 25, 1]
    assert str(cell_lengths(NOTEBOOK)) == "4 code cells, 55 lines, median 14, longest 26"
    assert str(cell_lengths(new_notebook())) == "0 code cells, 0 lines, median 0, longest 0"


def test_a_long_cell_is_a_problem_and_a_just_long_enough_one_is_not():
    [problem] = check_lengths("Demo.ipynb", NOTEBOOK, 25)
    assert (problem.file, problem.cell) == ("Demo.ipynb", 2)
    assert "a code cell of 26 lines, at most 25" in problem.what
    assert check_lengths("Demo.ipynb", NOTEBOOK, 26) == []
