"""Bootstrap intervals against what is known in closed form."""

from __future__ import annotations

import pytest
import torch

from helpers.intervals import mean_interval, share_interval, stack_intervals


@pytest.fixture
def values():
    return torch.randn(3, 400, generator=torch.Generator().manual_seed(0))


def test_near_the_normal_interval(values):
    """With hundreds of nearly normal values the two agree; 2000 resamples leave a few percent."""
    interval = mean_interval(values)
    torch.testing.assert_close(interval.value, values.mean(-1))
    half_width = 1.96 * values.std(-1) / values.shape[-1] ** 0.5
    torch.testing.assert_close(interval.high - interval.value, half_width, rtol=0.1, atol=0)
    torch.testing.assert_close(interval.value - interval.low, half_width, rtol=0.1, atol=0)


def test_more_confidence_is_wider_and_more_prompts_are_narrower(values):
    width = {c: mean_interval(values[0], confidence=c) for c in (0.5, 0.95, 0.99)}
    widths = [float(i.high - i.low) for i in width.values()]
    assert widths == sorted(widths)
    # Half-width 0.674 sigma against 1.960 sigma of a normal distribution.
    assert widths[0] / widths[1] == pytest.approx(0.674 / 1.960, rel=0.1)
    fewer = mean_interval(values[0, :100])
    assert float(fewer.high - fewer.low) == pytest.approx(2 * widths[1], rel=0.3)


def test_values_that_are_all_the_same_have_no_width():
    interval = mean_interval(torch.full((20,), 3.0))
    assert [float(part) for part in interval] == [3.0, 3.0, 3.0]


def test_a_ratio_is_of_means_and_keeps_pairs_together(values):
    whole = values[0] + 5
    ratio = mean_interval(0.25 * whole, relative_to=whole)
    # Resampled apart, numerator and denominator would vary; together the ratio is the same each time.
    for part in ratio:
        assert float(part) == pytest.approx(0.25, abs=1e-6)
    parts = mean_interval(values, relative_to=whole)
    torch.testing.assert_close(parts.value, values.mean(-1) / whole.mean())


def test_each_cell_has_its_own_interval(values):
    shifted = values + torch.tensor([[0.0], [10.0], [20.0]])
    interval = mean_interval(shifted)
    assert (interval.low < interval.value).all()
    assert (interval.value < interval.high).all()
    torch.testing.assert_close(interval.value, shifted.mean(-1))
    assert (interval.high[:-1] < interval.low[1:]).all()


def test_a_seed_fixes_the_interval(values):
    first, again, other = (mean_interval(values, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.low, again.low)
    assert not torch.equal(first.low, other.low)


def test_it_prints_with_its_ends():
    assert str(mean_interval(torch.full((5,), 1.5))) == "+1.50 [+1.50, +1.50]"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(1), "at least two prompts"),
        (torch.tensor(1.0), "at least two prompts"),
        (torch.tensor([1.0, float("nan")]), "NaN or infinity"),
    ],
)
def test_refusals(bad, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(bad)


def test_intervals_side_by_side_and_as_numbers():
    cells = [mean_interval(torch.tensor([1.0, 2.0, 4.0])), mean_interval(torch.tensor([0.0, -1.0]))]
    both = stack_intervals(cells)
    assert both.value.shape == (2,)
    assert both.at(1).plain() == cells[1].plain()
    assert cells[0].plain() == (pytest.approx(7 / 3), pytest.approx(1.0), pytest.approx(4.0))


@pytest.mark.parametrize(("hits", "count"), [(3, 3), (0, 4), (7, 10), (150, 200)])
def test_a_share_has_the_wilson_interval(hits, count):
    """Its ends are where the share lies 1.96 standard errors away, with the error that they have."""
    interval = share_interval(torch.arange(count) < hits)
    share = hits / count
    assert float(interval.value) == pytest.approx(share)
    for end, away in ((float(interval.low), share > 0), (float(interval.high), share < 1)):
        if away:
            assert abs(share - end) == pytest.approx(1.96 * (end * (1 - end) / count) ** 0.5, rel=1e-3)
        else:
            assert end == pytest.approx(share, abs=1e-6)
    assert share_interval(torch.arange(count) < hits, confidence=0.5).low >= interval.low


def test_a_share_of_nothing():
    with pytest.raises(ValueError, match="at least one prompt"):
        share_interval(torch.zeros(0, dtype=torch.bool))
