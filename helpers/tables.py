"""Tables for readers: pandas frames, as HTML in a notebook and as text in a terminal or plain script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
from IPython.display import display
from jaxtyping import Float
from torch import Tensor

from helpers.head_scores import Head
from helpers.path_patching import Path
from helpers.wording import COLUMNS


def show_table(table: pd.DataFrame, *, decimals: int = 3, signed: bool = False) -> None:
    """Display a table whole, with every float at the same number of decimals.

    The table itself keeps its numbers as they are.

    Args:
        table: with named columns, and units where there are any.
        decimals: of each float.
        signed: a plus before positive floats, as for effects.

    Example:
        >>> table = pd.DataFrame({"effect": [0.512, -0.2]}, index=["L0H1", "L1H0"])
        >>> show_table(table, decimals=2, signed=True)
              effect
        L0H1   +0.51
        L1H0   -0.20
    """
    number = f"{{:{'+' if signed else ''}.{decimals}f}}"
    with pd.option_context(
        *("display.float_format", number.format),
        *("display.width", COLUMNS),
        *("display.max_rows", None),
        *("display.max_columns", None),
        *("display.max_colwidth", None),
    ):
        display(table)


def head_table(
    heads: Iterable[Head | tuple[int, int]], columns: Mapping[str, Float[Tensor, "layer head"]]
) -> pd.DataFrame:
    """Heads by name, with what each matrix of values holds for them.

    Args:
        heads: the rows, in this order; a head may also be (layer, head).
        columns: name of a column to one value for every head of the model.

    Raises:
        IndexError: if a head is not in a matrix; heads count from zero.

    Example:
        >>> head_table([(0, 1), (1, 0)], {"effect": torch.tensor([[0.0, 2.5], [-1.5, 0.0]])})
              effect
        head
        L0H1     2.5
        L1H0    -1.5
    """
    places = [(int(head[0]), int(head[1])) for head in heads]
    if any(min(place) < 0 for place in places):
        raise IndexError(f"Layers and heads count from zero; got {min(places)}.")
    data = {name: [values[place].item() for place in places] for name, values in columns.items()}
    names = [f"L{layer}H{head}" for layer, head in places]
    return pd.DataFrame(data, index=pd.Index(names, name="head"))


def path_table(paths: Iterable[Path]) -> pd.DataFrame:
    """Direct paths between heads by name, with what each restores.

    Example:
        >>> path_table([Path(Head(0, 1, 0.5), "query", Head(2, 3, 1.0))])
             speaks to the    of  restores
        head
        L0H1         query  L2H3       0.5
    """
    rows = [(p.sender.name, p.through, p.receiver.name, p.sender.value) for p in paths]
    return pd.DataFrame(rows, columns=["head", "speaks to the", "of", "restores"]).set_index("head")
