"""Pictures in outputs: whether one can be read, what it was drawn from, whether two show the same."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from helpers.figure_json import PICTURE_KEY, Json, figure_sha256
from helpers.notebooks.compare import Difference

PNG = "image/png"
# Pictures that are stored as base64; image/svg+xml is text.
PICTURES = {PNG: "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)

# Of 255 levels. Data that move by 1e-5 move an edge by 1/200 pixel, and antialiasing makes a level or
# two of that; a colour map's next entry is up to four away.
SAME_LEVEL = 6
# The share of pixels that may differ by more: of 640 x 480, six.
SAME_SHARE = 2e-5


def _read_picture(encoded: str, kind: str = PNG) -> Image.Image:
    """A base64 picture, decoded to the last pixel. Raises one of UNREADABLE if it cannot be."""
    content, formats = base64.b64decode(encoded), [PICTURES[kind]]
    Image.open(io.BytesIO(content), formats=formats).verify()  # the check sums; closes the picture
    picture = Image.open(io.BytesIO(content), formats=formats)
    picture.load()
    return picture


def picture_fault(encoded: str, kind: str = PNG) -> str | None:
    """What is wrong with a base64 picture: another format, damaged, or a single colour. None: fine."""
    try:
        channels = _read_picture(encoded, kind).convert("RGBA").split()
    except UNREADABLE as error:
        return f"the picture cannot be read: {error}"
    single = all(low == high for low, high in (channel.getextrema() for channel in channels))
    return "the picture is blank: a single colour" if single else None


def figure_of_picture(encoded: str) -> str | None:
    """The hash of the figure that a readable base64 PNG was drawn from; None if it does not say."""
    return _read_picture(encoded).info.get(PICTURE_KEY)


def foreign_picture_fault(figure: Json, encoded: str) -> str | None:
    """Why a readable picture may not show this figure. None if it was drawn from what is stored."""
    named = figure_of_picture(encoded)
    if named is None:
        return "the picture does not name the figure it was drawn from"
    return None if named == figure_sha256(figure) else "the picture was drawn from another figure"


def pixels(encoded: str, kind: str = PNG) -> UInt8[np.ndarray, "height width 4"]:
    """The colours of a base64 picture. Raises one of UNREADABLE if it cannot be read."""
    return np.array(_read_picture(encoded, kind).convert("RGBA"))


def picture_differences(old: str, new: str, kind: str = PNG) -> Iterator[Difference]:
    """Whether two base64 pictures show the same to the eye: such as Matplotlib's, which hold no data.

    Equal in size, and all but one pixel in 50,000 equal up to what antialiasing makes of float noise.
    A change that moves nothing by a pixel, and no colour by seven levels, is not seen.
    """
    faults = {side: picture_fault(each, kind) for side, each in (("committed", old), ("new", new))}
    for side, fault in faults.items():
        if fault:
            yield Difference(f"{side} picture", "a picture", fault)
    if any(faults.values()) or old == new:
        return
    one, other = pixels(old, kind), pixels(new, kind)
    if one.shape != other.shape:
        sizes = [f"{side.shape[1]} x {side.shape[0]} pixels" for side in (one, other)]
        yield Difference("size", *sizes)
        return
    apart = np.abs(one.astype(int) - other).max(axis=-1) > SAME_LEVEL
    if apart.mean() > SAME_SHARE:
        rows, columns = np.nonzero(apart)
        yield Difference(
            f"pixels x {columns.min()}-{columns.max()}, y {rows.min()}-{rows.max()}",
            "a picture",
            "another picture",
            f"{apart.mean():.3%} of the pixels differ by more than {SAME_LEVEL} of 255 levels, "
            f"allowed {SAME_SHARE:.3%}",
        )
