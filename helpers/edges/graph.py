"""Writers, readers, and which of them can have an edge.

Tables of edges are ``[reader, writer]`` in the order of :func:`readers` and :func:`writers`. Writers
come in the order in which they write, so that what a reader can hear is always the first few of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.replay import side_by_side

Through = Literal["q", "k", "v", "mlp", "logits"]


class Writer(NamedTuple):
    """What adds to the residual stream: a head, an MLP (no head), or the embeddings (layer -1).

    Example:
        >>> Writer(-1).name, Writer(2, 3).name, Writer(2).name
        ('embed', 'L2H3', 'MLP 2')
    """

    layer: int
    head: int | None = None

    @property
    def name(self) -> str:
        if self.layer < 0:
            return "embed"
        return f"MLP {self.layer}" if self.head is None else f"L{self.layer}H{self.head}"


class Reader(NamedTuple):
    """What reads the residual stream: an input of a head ("q", "k", "v"), an MLP, or the logits.

    Example:
        >>> Reader(2, 3, "q").name, Reader(2, None, "mlp").name, Reader(3, None, "logits").name
        ('L2H3 q', 'MLP 2', 'logits')
    """

    layer: int
    head: int | None
    through: Through

    @property
    def name(self) -> str:
        if self.through == "logits":
            return "logits"
        part = self.part.name
        return part if self.head is None else f"{part} {self.through}"

    @property
    def part(self) -> Writer:
        """What writes, having read this."""
        return Writer(self.layer, self.head)


class Edge(NamedTuple):
    """What a writer tells a reader, with a value such as its effect.

    Example:
        >>> Edge(Writer(0, 1), Reader(2, 3, "k"), 0.5).name
        'L0H1 -> L2H3 k'
    """

    writer: Writer
    reader: Reader
    value: float

    @property
    def name(self) -> str:
        return f"{self.writer.name} -> {self.reader.name}"


def writers(model: TransformerBridge) -> list[Writer]:
    """Every part that writes to the residual stream, in the order of writing.

    Example:
        >>> [writer.name for writer in writers(model)][:6]
        ['embed', 'L0H0', 'L0H1', 'L0H2', 'L0H3', 'MLP 0']
    """
    parts = [Writer(-1)]
    for layer in range(model.cfg.n_layers):
        parts += [Writer(layer, head) for head in range(model.cfg.n_heads)]
        parts.append(Writer(layer))
    return parts


def readers(model: TransformerBridge) -> list[Reader]:
    """Every input that reads the residual stream: by layer queries, keys, values, the MLP; then logits.

    A key or value that query heads share is read once for each of them: an edge tells one head alone.

    Example:
        >>> len(readers(model)) == model.cfg.n_layers * (3 * model.cfg.n_heads + 1) + 1
        True
    """
    inputs: list[Reader] = []
    for layer in range(model.cfg.n_layers):
        for through in ("q", "k", "v"):
            inputs += [Reader(layer, head, through) for head in range(model.cfg.n_heads)]  # type: ignore
        inputs.append(Reader(layer, None, "mlp"))
    return [*inputs, Reader(model.cfg.n_layers, None, "logits")]


def heard_by(model: TransformerBridge, reader: Reader) -> int:
    """How many of :func:`writers`, from the first, write before a reader reads.

    Raises:
        ValueError: if the model has no such reader.

    Example:
        >>> heard_by(model, Reader(0, 2, "q"))  # the embeddings
        1
    """
    layer, head, through = reader
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    before = 1 + layer * (n_heads + 1)
    if through == "logits" and layer == n_layers and head is None:
        return before
    there_is = 0 <= layer < n_layers and through in get_args(Through)
    if there_is and through == "mlp" and head is None:
        return before + (0 if side_by_side(model) else n_heads)
    if there_is and through in ("q", "k", "v") and head is not None and 0 <= head < n_heads:
        return before
    raise ValueError(
        f"{model.cfg.model_name} has no reader {tuple(reader)}; it has the q, k and v of {n_heads} "
        f"heads and an MLP (head None) in each of {n_layers} layers, and Reader({n_layers}, None, "
        "'logits')."
    )


def possible_edges(model: TransformerBridge) -> Bool[Tensor, "reader writer"]:
    """Which pairs of a reader and a writer can have an edge.

    Example:
        >>> int(possible_edges(model)[0].sum())  # a query of the first layer hears the embeddings
        1
    """
    return _possible(model, readers(model))


def _possible(model: TransformerBridge, some: Sequence[Reader]) -> Bool[Tensor, "reader writer"]:
    heard = torch.tensor([heard_by(model, reader) for reader in some])
    return torch.arange(len(writers(model))) < heard[:, None]


def strongest_edges(
    model: TransformerBridge,
    effects: Float[Tensor, "reader writer"],
    count: int,
    *,
    among: Sequence[Reader] | None = None,
) -> list[Edge]:
    """The possible edges of largest effect, by size, strongest first.

    Args:
        effects: of each edge; 0 is none.
        count: how many at most. Edges without any effect are left out.
        among: the readers that the rows of ``effects`` stand for; ``None`` for all.

    Raises:
        ValueError: if the shape does not fit.

    Example:
        >>> effects = torch.zeros(possible_edges(model).shape)
        >>> effects[-1, 2] = -0.7
        >>> [edge.name for edge in strongest_edges(model, effects, 3)]
        ['L0H1 -> logits']
    """
    of_readers, of_writers = readers(model) if among is None else list(among), writers(model)
    if effects.shape != (len(of_readers), len(of_writers)):
        raise ValueError(
            f"Expected effects of {len(of_readers)} readers and {len(of_writers)} writers; "
            f"got {tuple(effects.shape)}."
        )
    sizes = (effects.cpu().abs() * _possible(model, of_readers)).flatten()
    order = sizes.argsort(descending=True, stable=True)[: min(count, int((sizes > 0).sum()))]
    places = [divmod(int(i), len(of_writers)) for i in order]
    return [Edge(of_writers[w], of_readers[r], effects[r, w].item()) for r, w in places]


def strongest_readers(
    model: TransformerBridge, effects: Mapping[str, Float[Tensor, "layer part ..."]], count: int
) -> list[Reader]:
    """Inputs of heads and MLPs whose patch, as a whole, does most, by size.

    Args:
        effects: of patching "q", "k" and "v" (by head, or key/value head where they are shared: it
            counts for each head of the group) and "mlp_out" (by position: the largest counts), as
            :func:`helpers.patching.patch_sweep` has them, less the unpatched metric.
        count: how many.

    Example:
        >>> effects = {site: torch.zeros(3, 4) for site in ("q", "k", "v", "mlp_out")}
        >>> effects["k"][2, 1] = -0.5
        >>> [reader.name for reader in strongest_readers(model, effects, 1)]
        ['L2H1 k']
    """

    def size(reader: Reader) -> float:
        if reader.head is None:
            return effects["mlp_out"][reader.layer].abs().max().item()
        of_layer = effects[reader.through][reader.layer]
        return of_layer[reader.head * len(of_layer) // model.cfg.n_heads].abs().item()

    inputs = readers(model)[:-1]
    return sorted(inputs, key=size, reverse=True)[:count]


def heads_on(edges: Sequence[Edge]) -> list[str]:
    """The heads that edges join, by name, in the order in which they come up.

    Example:
        >>> into = Reader(2, 3, "k")
        >>> heads_on([Edge(Writer(0, 1), into, 0.5), Edge(Writer(0), into, 0.4)])
        ['L0H1', 'L2H3']
    """
    parts = [part for edge in edges for part in (edge.writer, edge.reader.part)]
    return list(dict.fromkeys(part.name for part in parts if part.head is not None))


def edge_mask(model: TransformerBridge, edges: Sequence[Edge]) -> Bool[Tensor, "reader writer"]:
    """Some edges as a table, for :func:`helpers.edges.circuit.with_only_edges`.

    Example:
        >>> edge = Edge(Writer(0, 1), Reader(2, 3, "k"), 0.5)
        >>> edge_mask(model, [edge]).nonzero().tolist() == [[2 * 13 + 4 + 3, 2]]
        True
    """
    rows = {reader: row for row, reader in enumerate(readers(model))}
    columns = {writer: column for column, writer in enumerate(writers(model))}
    mask = torch.zeros(len(rows), len(columns), dtype=torch.bool)
    for edge in edges:
        if columns[edge.writer] >= heard_by(model, edge.reader):
            raise ValueError(f"There can be no edge {edge.name}: the writer comes after the reader.")
        mask[rows[edge.reader], columns[edge.writer]] = True
    return mask


def on_a_path(model: TransformerBridge, edges: Sequence[Edge]) -> list[Edge]:
    """The edges that lie on some way from the embeddings to the logits: the others change nothing.

    Nothing, if the reference is the corrupted prompts: a part that hears nothing of the run says there
    what it says on them. (Given an average of streams, it does not say the average of what it says.) A
    part that nobody hears does not matter in any case.

    Example:
        >>> spoken = Edge(Writer(0, 1), Reader(3, None, "logits"), 0.5)
        >>> heard = Edge(Writer(-1), Reader(0, 1, "v"), 0.5)
        >>> [edge.name for edge in on_a_path(model, [spoken, heard])]
        ['L0H1 -> logits', 'embed -> L0H1 v']
        >>> on_a_path(model, [spoken])
        []
    """
    left = list(edges)
    while True:
        fed = {Writer(-1), *(edge.reader.part for edge in left)}
        spoken = {Writer(model.cfg.n_layers), *(edge.writer for edge in left)}
        kept = [edge for edge in left if edge.writer in fed and edge.reader.part in spoken]
        if len(kept) == len(left):
            return kept
        left = kept
