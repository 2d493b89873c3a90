"""Pictures that come without data (Matplotlib's): the same to the eye, or not."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
from nbformat.v4 import new_output
from PIL import Image, ImageDraw

from helpers.notebooks.compare import Tolerance
from helpers.notebooks.outputs import compare_outputs
from helpers.notebooks.pictures import PICTURES, PNG, picture_differences
from tests.pictures import blank, encoded, png, with_comment

SIZE, FINE = (320, 240), 8  # drawn eight times as large, and reduced: antialiased
VALUES = [math.sin(i + 0.3) * 0.8 + 1 for i in range(20)]
Values = list[float]


def canvas() -> Image.Image:
    return Image.new("RGB", (SIZE[0] * FINE, SIZE[1] * FINE), "white")


def height(value: float) -> float:
    return (SIZE[1] - value * 110) * FINE


def line(values: Values) -> Image.Image:
    image = canvas()
    points = [((10 + 15 * i) * FINE, height(value)) for i, value in enumerate(values)]
    ImageDraw.Draw(image).line(points, fill=(31, 119, 180), width=2 * FINE)
    return image.resize(SIZE, Image.Resampling.BOX)


def bars(values: Values) -> Image.Image:
    image = canvas()
    for i, value in enumerate(values):
        left = (5 + 15 * i) * FINE
        box = (left, height(value), left + 11 * FINE, SIZE[1] * FINE)
        ImageDraw.Draw(image).rectangle(box, fill=(255, 127, 14))
    return image.resize(SIZE, Image.Resampling.BOX)


def heatmap(values: Values) -> Image.Image:
    levels = (np.array(values) * 100).round().astype(np.uint8).reshape(4, 5)
    return Image.fromarray(levels).convert("RGB").resize(SIZE, Image.Resampling.NEAREST)


DRAWINGS = [line, bars, heatmap]
Drawing = Callable[[Values], Image.Image]


def scaled(values: Values, factor: float, at: int | None = None) -> Values:
    return [value * factor if at in (None, i) else value for i, value in enumerate(values)]


def notes(old: str, new: str, kind: str = PNG) -> list[str]:
    return [f"{found.where}: {found.got} {found.note}" for found in picture_differences(old, new, kind)]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_noise_and_other_bytes_are_the_same_picture(draw: Drawing) -> None:
    drawn = png(draw(VALUES))
    assert notes(drawn, drawn) == notes(drawn, with_comment(drawn)) == []
    for noise in (1e-6, 1e-5):
        assert notes(drawn, png(draw(scaled(VALUES, 1 + noise)))) == []


@pytest.mark.parametrize("draw", DRAWINGS)
def test_changed_data_are_another_picture(draw: Drawing) -> None:
    drawn = png(draw(VALUES))
    changes = [scaled(VALUES, 1.1), VALUES[::-1], [2 - value for value in VALUES]]
    changes += [scaled(VALUES, 1.1, at) for at in range(20) if VALUES[at] > 0.7]
    for values in changes:
        assert any("of the pixels differ" in note for note in notes(drawn, png(draw(values))))


def test_a_difference_says_where_it_is() -> None:
    old, new = Image.new("RGB", (100, 80), "white"), Image.new("RGB", (100, 80), "white")
    old.putpixel((0, 0), (0, 0, 0))
    new.putpixel((0, 0), (0, 0, 0))
    new.paste("red", (20, 30, 25, 32))
    (note,) = notes(png(old), png(new))
    assert note.startswith("pixels x 20-24, y 30-31: ")
    assert "0.125% of the pixels" in note


def test_size_colour_and_transparency_count() -> None:
    image = line(VALUES)
    assert notes(png(image), png(image.resize((319, 240))))[0].startswith("size: 319 x 240 pixels")
    assert notes(png(image), png(image.convert("L")))
    clear = image.convert("RGBA")
    clear.putalpha(128)
    assert notes(png(image), png(clear))
    assert notes(png(image), png(image.convert("RGBA"))) == []  # written in another mode


def test_a_blank_or_damaged_picture_is_said() -> None:
    drawn = png(line(VALUES))
    assert "single colour" in notes(drawn, blank(320))[0]
    assert "cannot be read" in notes(drawn[: len(drawn) // 8 * 4], drawn)[0]


@pytest.mark.parametrize("kind", sorted(set(PICTURES) - {PNG}))
def test_other_formats_compare_by_pixels_too(kind: str) -> None:
    def written(values: Values, **options: int) -> str:
        file = io.BytesIO()
        line(values).save(file, format=PICTURES[kind], **options)
        return encoded(file.getvalue())

    def outputs(picture: str) -> list:
        return [new_output("display_data", data={kind: picture, "text/plain": "a"})]

    drawn = written(VALUES)
    assert compare_outputs(outputs(drawn), outputs(written(VALUES)), Tolerance()) == []
    found = compare_outputs(outputs(drawn), outputs(written(scaled(VALUES, 1.1))), Tolerance())
    assert [difference.where.split(", ")[1] for difference in found] == [kind]
    assert compare_outputs(outputs(drawn), outputs(drawn[:400]), Tolerance())
    assert base64.b64decode(drawn)[:4] != b"\x89PNG"
