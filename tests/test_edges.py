"""Edges, exact and estimated, against plain hooks, TransformerLens's own, and each other."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.tools.analysis import (
    EdgeAttributionConfig,
    FaithfulnessConfig,
    Node,
    attribution_patch,
)
from transformer_lens.tools.analysis import faithfulness as faithfulness_of_transformer_lens

from helpers.attribution import attribution_sweep
from helpers.edges.circuit import faithfulness, with_only_edges
from helpers.edges.estimated import edge_attribution
from helpers.edges.exact import edge_sweep
from helpers.edges.graph import (
    Edge,
    Reader,
    Writer,
    edge_mask,
    heard_by,
    on_a_path,
    possible_edges,
    readers,
    strongest_edges,
    writers,
)
from helpers.edges.writes import writes
from helpers.logit_diff import LogitDiff
from helpers.path_patching import path_patch_sweep
from tests.edges_by_hooks import edge_by_hooks
from tests.tiny_models import bridge, tiny_gpt2, tiny_gpt2_hf, tiny_llama, tiny_odd

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])
SOURCE = torch.tensor([[0, 5, 10, 12, 5, 31], [0, 7, 8, 3, 41, 3]])
ANSWERS = torch.tensor([[4, 8], [8, 4]])
METRIC = LogitDiff(ANSWERS)
MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama, "gptj": lambda: tiny_odd("gptj")}
# float32's sums in another order; effects reach 0.1 and more, which is asserted.
CLOSE = {"atol": 1e-4, "rtol": 0}


def some_readers(model) -> list[Reader]:
    of_heads = [
        Reader(2, 3, "q"),
        Reader(1, 0, "k"),
        Reader(2, 1, "k"),
        Reader(2, 2, "v"),
        Reader(0, 1, "v"),
    ]
    of_mlps = [Reader(0, None, "mlp"), Reader(1, None, "mlp"), Reader(2, None, "mlp")]
    return [*of_heads, *of_mlps, Reader(model.cfg.n_layers, None, "logits")]


# --- the graph ------------------------------------------------------------------------------------


def test_writers_and_readers_of_gpt2_and_of_parallel_blocks():
    names = [writer.name for writer in writers(tiny_gpt2(n_layers=2))]
    assert names == [
        "embed",
        *(f"L0H{h}" for h in range(4)),
        "MLP 0",
        *(f"L1H{h}" for h in range(4)),
        "MLP 1",
    ]
    assert heard_by(tiny_gpt2(), Reader(1, None, "mlp")) == 1 + 5 + 4
    assert heard_by(tiny_odd("gptj"), Reader(1, None, "mlp")) == 1 + 5  # not its own layer's heads


@pytest.mark.parametrize("name", MODELS)
def test_the_last_row_and_column_are_the_logits_and_the_last_mlp(name):
    model = MODELS[name]()
    possible = possible_edges(model)
    assert possible.shape == (len(readers(model)), len(writers(model)))
    assert possible[-1].all()
    assert possible[:-1, -1].sum() == 0


@pytest.mark.parametrize(
    "reader", [(3, 0, "q"), (0, 4, "q"), (0, None, "q"), (0, 1, "mlp"), (2, None, "logits"), (0, 0, "z")]
)
def test_a_reader_there_is_not_is_named(reader):
    with pytest.raises(ValueError, match="has no reader"):
        heard_by(tiny_gpt2(), Reader(*reader))


def test_strongest_edges_are_possible_ones_by_size():
    model = tiny_gpt2()
    effects = torch.zeros(possible_edges(model).shape)
    effects[0, -1] = 9.0  # the last MLP cannot speak to a query of the first layer
    effects[-1, 0], effects[-1, -1] = -2.0, 1.0
    found = strongest_edges(model, effects, 5)
    assert [(edge.name, edge.value) for edge in found] == [
        ("embed -> logits", -2.0),
        ("MLP 2 -> logits", 1.0),
    ]
    assert edge_mask(model, found).sum() == 2
    with pytest.raises(
        ValueError, match=r"Expected effects of 40 readers and 16 writers; got \(2, 16\)"
    ):
        strongest_edges(model, effects[:2], 5)
    with pytest.raises(ValueError, match="the writer comes after"):
        edge_mask(model, [Edge(Writer(2), Reader(0, 0, "q"), 1.0)])


def test_what_is_on_no_path_is_left_out_from_both_ends():
    model = tiny_gpt2()
    said = Edge(Writer(1, 0), Reader(3, None, "logits"), 1.0)
    heard = Edge(Writer(0), Reader(1, 0, "k"), 1.0)
    begun = Edge(Writer(-1), Reader(0, None, "mlp"), 1.0)
    aside = Edge(Writer(0), Reader(1, 2, "k"), 1.0)
    assert on_a_path(model, [said, heard, begun, aside]) == [said, heard, begun]
    assert on_a_path(model, [said, heard, aside]) == []


# --- what parts write -----------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["gemma2"])
def test_a_stream_that_is_no_such_sum_is_refused(model_type):
    model = tiny_odd(model_type)
    with pytest.raises(NotImplementedError, match="layer 0 does not add the sum"):
        writes(model, BASE)
    for sweep in (
        lambda: edge_sweep(model, BASE, SOURCE, [Reader(1, 0, "q")], METRIC),
        lambda: edge_attribution(model, BASE, SOURCE, METRIC),
    ):
        with pytest.raises(NotImplementedError):
            sweep()


# --- exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_plain_hooks(name):
    model = MODELS[name]()
    into = some_readers(model)
    found = edge_sweep(model, BASE, SOURCE, into, METRIC)
    unpatched = METRIC(model(BASE)[:, -1])
    for row, reader in enumerate(into):
        heard = heard_by(model, reader)
        assert (found[row, heard:] == found[row, -1]).all() or heard == found.shape[1]
        for column in range(heard):
            expected = edge_by_hooks(model, BASE, SOURCE, writers(model)[column], reader, METRIC)
            torch.testing.assert_close(found[row, column], expected, **CLOSE)
        # A value is read in the first layer too; a query of one position chooses among the same keys.
        assert (found[row] - unpatched).abs().max() > 0.003, (
            f"the comparison would notice at {reader.name}"
        )


@pytest.mark.parametrize("through", ["q", "k", "v"])
def test_heads_among_writers_are_those_of_path_patching(through):
    model, receiver = tiny_llama(), (2, 3)
    by_head = path_patch_sweep(model, BASE, SOURCE, receiver, through, METRIC)
    [by_writer] = edge_sweep(model, BASE, SOURCE, [Reader(*receiver, through)], METRIC)
    for column, writer in enumerate(writers(model)):
        if writer.head is not None:
            torch.testing.assert_close(by_writer[column], by_head[writer], **CLOSE)


def test_prompts_apart_and_in_any_batch():
    model, into = tiny_llama(), [Reader(2, 3, "k"), Reader(1, None, "mlp"), Reader(3, None, "logits")]
    each = edge_sweep(model, BASE, SOURCE, into, LogitDiff(ANSWERS, per_prompt=True))
    together = edge_sweep(model, BASE, SOURCE, into, METRIC, chunk=2)
    assert each.shape == (3, 16, 2)
    torch.testing.assert_close(each.mean(-1), together, **CLOSE)


def test_half_precision_is_near():
    into = [Reader(2, 3, "k"), Reader(1, None, "mlp"), Reader(3, None, "logits")]
    whole = edge_sweep(tiny_gpt2(compatible=False), BASE, SOURCE, into, METRIC)
    half_model = bridge(tiny_gpt2_hf(), compatible=False).to(torch.bfloat16)
    half = edge_sweep(half_model, BASE, SOURCE, into, METRIC)
    assert half.dtype == torch.float32
    assert (half - whole).norm() < 0.12 * whole.norm()  # bfloat16's three decimal digits, three layers


# --- estimated ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_estimates_are_the_slopes_of_exact_edges(name, monkeypatch):
    """With every writer's change made small, the exact sweep over it is the gradient's."""
    model, share = MODELS[name](), 1e-2
    into, of_readers = some_readers(model), readers(model)
    estimated = edge_attribution(model, BASE, SOURCE, METRIC) - METRIC(model(BASE)[:, -1])

    def near(model, tokens):
        """Of the source run, a small part of the way."""
        own, other = writes(model, BASE), writes(model, tokens)
        return own._replace(parts=own.parts + share * (other.parts - own.parts))

    monkeypatch.setattr("helpers.edges.exact.writes", near)
    forward = edge_sweep(model, BASE, SOURCE, into, METRIC)
    share = -share
    backward = edge_sweep(model, BASE, SOURCE, into, METRIC)
    slopes = (forward - backward) / 0.02
    for row, reader in enumerate(into):
        ours = estimated[of_readers.index(reader)]
        # The square of the step, and float32's rounding over it.
        torch.testing.assert_close(ours, slopes[row], atol=5e-4, rtol=1e-2)
        assert ours.abs().max() > 2e-3, f"the comparison would notice at {reader.name}"


def test_agrees_with_transformer_lens():
    """Which gives edges at each position, for one pair of prompts, where no key is shared."""
    model, metric = tiny_gpt2(), LogitDiff(ANSWERS[:1])
    theirs = attribution_patch(
        model,
        SOURCE[:1],
        BASE[:1],
        lambda logits: metric(logits[:, -1]),
        config=EdgeAttributionConfig(granularity="edge"),
    )
    ours = edge_attribution(model, BASE[:1], SOURCE[:1], metric) - metric(model(BASE[:1])[:, -1])
    summed = torch.zeros_like(ours)
    rows = {reader: row for row, reader in enumerate(readers(model))}
    columns = {writer: column for column, writer in enumerate(writers(model))}
    kinds = {"q_input": "q", "k_input": "k", "v_input": "v", "mlp_in": "mlp", "logits": "logits"}
    for (written, read), score in theirs.edge_scores.items():
        through = kinds[read.kind]
        layer = model.cfg.n_layers if through == "logits" else read.layer
        writer = Writer(-1) if written.kind == "embed" else Writer(written.layer, written.head)
        summed[rows[Reader(layer, read.head, through)], columns[writer]] += score
    # Its embeddings are the tokens' alone; positions' are the same in both runs.
    torch.testing.assert_close(ours * possible_edges(model), summed, **CLOSE)
    assert summed.abs().max() > 0.1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_all_edges_out_of_a_writer_are_its_patch_estimated(name):
    """Chain rule: what a head's output does is what all readers of it do."""
    model = MODELS[name]()
    unpatched = METRIC(model(BASE)[:, -1])
    edges = (edge_attribution(model, BASE, SOURCE, METRIC, steps=3) - unpatched).sum(0)
    heads = attribution_sweep(model, BASE, SOURCE, "z", METRIC, steps=3) - unpatched
    for column, writer in enumerate(writers(model)):
        if writer.head is not None:
            torch.testing.assert_close(edges[column], heads[writer], **CLOSE)


def test_steps_below_one_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        edge_attribution(tiny_gpt2(), BASE, SOURCE, METRIC, steps=0)


# --- circuits of edges ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "gptj"])
@torch.no_grad()
def test_all_edges_are_the_model_and_none_is_the_reference(name):
    model = MODELS[name]()
    metric, every = LogitDiff(ANSWERS, per_prompt=True), possible_edges(model)
    reference = writes(model, BASE)
    whole = with_only_edges(model, SOURCE, every, reference, metric)
    torch.testing.assert_close(whole, metric(model(SOURCE)[:, -1]), **CLOSE)
    nothing = with_only_edges(model, SOURCE, torch.zeros_like(every), reference, metric)
    torch.testing.assert_close(nothing, metric(model(BASE)[:, -1]), **CLOSE)
    assert (whole - nothing).abs().min() > 0.05


@pytest.mark.parametrize("name", ["gpt2", "llama", "gptj"])
@torch.no_grad()
def test_all_but_one_edge_is_path_patching_into_the_other_run(name):
    """Leaving one edge out of the source run is hearing one writer as in the base run."""
    model = MODELS[name]()
    metric, every = LogitDiff(ANSWERS, per_prompt=True), possible_edges(model)
    reference = writes(model, BASE)
    for writer, reader in [
        (Writer(0, 1), Reader(2, 3, "k")),
        (Writer(-1), Reader(1, 2, "v")),
        (Writer(1), Reader(2, 0, "q")),
        (Writer(0, 2), Reader(1, None, "mlp")),
        (Writer(2, 1), Reader(3, None, "logits")),
    ]:
        kept = every & ~edge_mask(model, [Edge(writer, reader, 0.0)])
        found = with_only_edges(model, SOURCE, kept, reference, metric)
        expected = edge_by_hooks(model, SOURCE, BASE, writer, reader, metric)
        # The edge is cut for good: what the writer says to it does not change with anything before it.
        torch.testing.assert_close(found, expected, **CLOSE)


@torch.no_grad()
def test_faithfulness_agrees_with_transformer_lens():
    model, metric = tiny_gpt2(), LogitDiff(ANSWERS[:1], per_prompt=True)
    base, source = BASE[:1], SOURCE[:1]
    estimated = edge_attribution(model, base, source, metric)[..., 0]
    effects = (estimated - estimated[0, -1]) * possible_edges(model)
    edges = strongest_edges(model, effects, 60)
    ours = with_only_edges(model, source, edge_mask(model, edges), writes(model, base), metric)
    low, high = (metric(model(tokens)[:, -1]) for tokens in (base, source))
    kinds = {"q": "q_input", "k": "k_input", "v": "v_input", "mlp": "mlp_in", "logits": "logits"}

    def theirs(edge: Edge, position: int) -> tuple[Node, Node]:
        writer, reader = edge.writer, edge.reader
        if writer.layer < 0:
            said = Node("embed", position)
        elif writer.head is None:
            said = Node("mlp_out", position, writer.layer)
        else:
            said = Node("attn_head_out", position, *writer)
        layer = min(reader.layer, model.cfg.n_layers - 1)
        return said, Node(kinds[reader.through], position, layer, reader.head)

    circuit = [theirs(edge, position) for edge in edges for position in range(source.shape[1])]
    result = faithfulness_of_transformer_lens(
        model,
        source,
        base,
        lambda logits: metric(logits[:, -1]).mean(),
        circuit,
        config=FaithfulnessConfig(ablation="corrupt"),
    )
    assert ((ours - low) / (high - low)).item() == pytest.approx(result.recovered, abs=1e-3)
    assert abs(result.recovered) > 0.05
    assert abs(result.recovered - 1) > 0.05


@torch.no_grad()
def test_mean_of_prompts_stands_beside_each():
    model, metric = tiny_llama(), LogitDiff(ANSWERS, per_prompt=True)
    kept = possible_edges(model)
    kept[:, 5:] = False
    mean = writes(model, BASE).mean()
    repeated = mean._replace(parts=mean.parts.expand(-1, 2, -1, -1))
    one = with_only_edges(model, SOURCE, kept, mean, metric)
    torch.testing.assert_close(
        one, with_only_edges(model, SOURCE, kept, repeated, metric, batch=1), **CLOSE
    )


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_several_circuits_at_once_and_what_prompts_have_in_common(name):
    """Prompts that begin alike are run from where they differ; the sums are those of the whole run."""
    model, metric = MODELS[name](), LogitDiff(ANSWERS, per_prompt=True)
    generator = torch.Generator().manual_seed(0)
    circuits = torch.rand(3, *possible_edges(model).shape, generator=generator) < 0.5
    late = SOURCE.clone()
    late[:, :4] = BASE[:, :4]
    late[:, 4] += 1
    reference = writes(model, BASE)
    whole = reference._replace(parts=reference.parts + 1e-4)  # by more than rounding: nothing in common
    together = with_only_edges(model, late, circuits, reference, metric)
    assert together.shape == (3, 2)
    for circuit, found in zip(circuits, together, strict=True):
        torch.testing.assert_close(
            with_only_edges(model, late, circuit, whole, metric), found, atol=2e-2, rtol=0
        )
        torch.testing.assert_close(
            with_only_edges(model, late, circuit, reference, metric), found, **CLOSE
        )


@torch.no_grad()
def test_each_reference_has_its_own_zero():
    """A share is 0 without an edge and 1 with all, of corrupted prompts and of their average alike."""
    model, every = tiny_gpt2(), possible_edges(tiny_gpt2())
    half = every.clone()
    half[:, 4:9] = False
    circuits = torch.stack([torch.zeros_like(every), half, every, every & ~half]).unflatten(0, (2, 2))
    per_prompt = LogitDiff(ANSWERS, per_prompt=True)
    reference = writes(model, BASE)
    for said in (reference, reference.mean()):
        share = faithfulness(model, SOURCE, circuits, said, METRIC)
        assert share.value.shape == (2, 2)
        torch.testing.assert_close(share.value[0, 0], torch.tensor(0.0), **CLOSE)
        torch.testing.assert_close(share.value[1, 0], torch.tensor(1.0), **CLOSE)
        values = with_only_edges(model, SOURCE, circuits, said, per_prompt).mean(-1)
        by_hand = (values[0, 1] - values[0, 0]) / (values[1, 0] - values[0, 0])
        torch.testing.assert_close(share.value[0, 1], by_hand, **CLOSE)
        one = faithfulness(model, SOURCE, half, said, METRIC)
        torch.testing.assert_close(one.value, share.value[0, 1], **CLOSE)
    with pytest.raises(ValueError, match="shape"):
        faithfulness(model, SOURCE, every[:3], reference, METRIC)


def test_wrong_shapes_are_named():
    model = tiny_gpt2()
    reference = writes(model, BASE)
    with pytest.raises(ValueError, match=r"shape \(40, 16\), or several.* got \(3, 16\) and 2"):
        with_only_edges(model, SOURCE, possible_edges(model)[:3], reference, METRIC)
    three = torch.cat([SOURCE, SOURCE[:1]])
    with pytest.raises(ValueError, match="a reference of one prompt or of 3"):
        with_only_edges(model, three, possible_edges(model), reference, METRIC)


def test_a_model_whose_queries_are_made_otherwise_is_refused(monkeypatch):
    """As where they are scaled or normalised on the way from weights to hook."""
    model = tiny_llama()
    reference, kind = writes(model, BASE), type(model.blocks[1].attn)
    weights = kind.W_Q.fget
    monkeypatch.setattr(kind, "W_Q", property(lambda attn: 2 * weights(attn)))
    with pytest.raises(NotImplementedError, match="is not itself"):
        with_only_edges(model, SOURCE, possible_edges(model), reference, METRIC)


def test_transformer_lens_refuses_edges_where_keys_are_shared():
    """Which the demo says; if it no longer does, it is another oracle."""
    config = EdgeAttributionConfig(granularity="edge")
    with pytest.raises((ValueError, NotImplementedError)):
        attribution_patch(
            tiny_llama(), SOURCE[:1], BASE[:1], lambda logits: logits[0, -1, 4], config=config
        )
