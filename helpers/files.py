"""Writing files: whole or not at all, and where it cannot be done, an error that says where and why.

A home may be read-only (container images, cluster nodes), a disk full, a quota used up. What writes goes
through here, so that each of these reads the same and leaves nothing half-written behind.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_REASONS = {
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EROFS: "it is on a file system that is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than is allowed (ulimit -f shows the limit)",
    errno.ENOTDIR: "there is a file where a folder has to be",
    errno.EEXIST: "there is a file where a folder has to be",
    errno.EIO: "the disk reports an error",
}


class NotWrittenError(OSError):
    """Something could not be written; the message names the folder and says why.

    Attributes:
        folder: that was to be written to.
        why: in a few words.
    """

    def __init__(self, folder: Path | str, why: str) -> None:
        super().__init__(f"The folder {folder} cannot be written to: {why}.")
        self.folder = Path(folder)
        self.why = why


def why_not_written(error: BaseException) -> str | None:
    """What keeps a file from being written, if that is what an error is about.

    Args:
        error: Python's own, or one that has the system's number in its text alone: of a library
            written in Rust (safetensors, tokenizers, Xet) as ``(os error 28)``, of :mod:`shutil` as
            ``[Errno 28]``.
    """
    number = error.errno if isinstance(error, OSError) else None
    said = str(error)
    told = re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", said)
    if number is None and told:
        number = int(told[1] or told[2])
    if number is None:  # words alone count where they can only be about a disk
        number = next((full for full in (errno.ENOSPC, errno.EDQUOT) if os.strerror(full) in said), 0)
    return _REASONS.get(number)


@contextmanager
def writing_to(folder: Path | str) -> Iterator[None]:
    """Turns what keeps the files in a folder from being written into a :class:`NotWrittenError`.

    Every other error passes as it is.
    """
    try:
        yield
    except NotWrittenError:
        raise
    except Exception as error:
        why = why_not_written(error)
        if why is None:
            raise
        raise NotWrittenError(folder, why) from error


def check_writable(folder: Path) -> None:
    """Asks before long work whether a folder, or one that is to be made there, can be written to.

    Leaves nothing behind. A disk may still turn out full when its work is done.

    Raises:
        NotWrittenError: if it cannot.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    with writing_to(folder), tempfile.TemporaryFile(dir=there):
        pass


def write_files(contents: Mapping[Path, str | bytes]) -> None:
    """Write files that belong together: first all of them beside their places, then into these.

    What goes wrong on the way (a full disk, an interruption) leaves the old files, and no new one.
    Folders are made if need be; text is written as UTF-8.

    Raises:
        NotWrittenError: naming the folder, and why it cannot be written to.
    """
    beside = {path: path.with_name(f".{path.name}.part") for path in contents}
    try:
        for path, content in contents.items():
            with writing_to(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                beside[path].write_bytes(content.encode() if isinstance(content, str) else content)
        for path, temporary in beside.items():
            with writing_to(path.parent):
                os.replace(temporary, path)
    except BaseException:
        for temporary in beside.values():
            _remove(temporary)
        raise


def write_file(path: Path, content: str | bytes) -> None:
    """Replace one file in one step; see :func:`write_files`."""
    write_files({path: content})


def _remove(path: Path) -> None:
    """If it is there; where nothing could be written, nothing can be removed: that is no news."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if why_not_written(error) is None:
            raise
