"""Which lines of a module of findings no case has reached."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _lines(module: ModuleType) -> set[int]:
    """Of the bodies of the functions that are defined there."""
    lines: set[int] = set()
    for _, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ == module.__name__:
            for code in _codes(function.__code__):
                lines |= {line for _, _, line in code.co_lines() if line and line > code.co_firstlineno}
    return lines


def unreached(module: ModuleType, cases: Callable[[], Any]) -> list[str]:
    """The lines of the module's functions that are not executed by the cases, with their numbers."""
    wanted, seen = _lines(module), set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename == module.__file__:
            seen.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        cases()
    finally:
        sys.settrace(before)
    source = inspect.getsource(module).split("\n")
    return [f"{line}: {source[line - 1].strip()}" for line in sorted(wanted - seen)]
