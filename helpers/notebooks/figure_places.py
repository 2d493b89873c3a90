"""Which tolerance the number at a place of a Plotly figure has: data, computed from data, or a setting.

Every float in a figure may have been computed, and then carries noise. So one part in 50,000 passes
everywhere; what is data, or is placed at data, may differ as much as data may.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from helpers.figure_json import Json
from helpers.notebooks.compare import ByPlace, Tolerance

# Single values of a trace that are data: they compare as the arrays beside them do.
_DATA = re.compile(r"(?:^|\.)(?:value|reference|base|q1|median|q3|mean|sd|[xyz]0|d[xyz])$")
# What the plotting code computes from the data: it carries the noise of the largest among them.
_COMPUTED = re.compile(
    r"(?:^|\.)(?:[cz]?(?:min|max|mid)|iso(?:min|max)|min|max)(?:allowed)?$"  # ranges of colours, values
    r"|(?:^|\.)(?:[xyz]?bins|contours(?:\.[xyz])?)\.(?:start|end|size|value)"
    r"|(?:^|\.)(?:bandwidth|tick0|dtick)$"
    r"|(?:^|\.)(?:range|tickvals|span|constraintrange|contours\.value)\["
)
# What is placed at or drawn between points moves as they may.
_PLACED = re.compile(
    r"(?:^|\.)(?:annotations|shapes|selections|images)\[\d+\]\.(?:[xyz][01]?|a[xyz]|size[xy]|path)(?:\[|$)"
    r"|(?:^|\.)[a-z]+axis\d*\.range\["
)
_SETTING_ARRAY = re.compile(r"colorscale|(?:^|\.)domain\.[xy]\[|(?:^|\.)(?:columnwidth|dash)\[")
# Only names stand there, also where they are numbers: 9.9 for a head, 0.25 for a quantile.
_LABELS = re.compile(
    r"(?:^|\.)(?:ticktext|labels?|parents|ids|categoryarray|locations|name|legendgroup|groups|[xyzab]"
    r"|header\.values|[a-z]*format)(?:\[\d+\])*$"
)
_LEVEL = 1.0  # of 255: a colour that was rounded the other way


def reach(traces: list[Json]) -> float:
    """How far the data reach: the largest magnitude in any array of the traces."""
    arrays = (entry for trace in traces for entry in trace.values() if isinstance(entry, list))
    return max((abs(number) for array in arrays for number in _numbers(array)), default=0.0)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _numbers(entry)
    elif isinstance(value, float) and math.isfinite(value):
        yield value


def _kinds(tolerance: Tolerance, reach: float) -> tuple[Tolerance, Tolerance, Tolerance]:
    """Of a setting; of what is computed from data as large as `reach`; of what is placed at them."""
    setting = replace(tolerance.exact, data_rtol=tolerance.noise)
    noise = tolerance.noise * reach
    computed = replace(setting, data_atol=noise)
    return setting, computed, replace(tolerance, data_atol=max(tolerance.data_atol, noise))


def in_trace(tolerance: Tolerance, reach: float) -> ByPlace:
    """Arrays are data, and some single values; the others are computed from data, or settings."""
    setting, computed, placed = _kinds(tolerance, reach)

    def by_place(place: str) -> Tolerance:
        if place.startswith("pixels"):
            return replace(setting, data_atol=_LEVEL)
        if _COMPUTED.search(place):
            found = computed
        elif _DATA.search(place):
            found = placed
        elif place.endswith("]") and not _SETTING_ARRAY.search(place):
            found = tolerance
        else:
            found = setting
        return replace(found, labels=bool(_LABELS.search(place)))

    return by_place


def in_layout(tolerance: Tolerance, reach: float) -> ByPlace:
    """What is placed at a point moves as far as the point may; the others are computed, or settings."""
    setting, computed, placed = _kinds(tolerance, reach)

    def by_place(place: str) -> Tolerance:
        if ".pixels[" in place:
            return replace(setting, data_atol=_LEVEL)
        found = setting
        if _PLACED.search(place):
            found = placed
        elif _COMPUTED.search(place):
            found = computed
        return replace(found, labels=bool(_LABELS.search(place)))

    return by_place
