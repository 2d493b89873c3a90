"""Findings are functions of plain numbers that return a sentence."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from importlib import import_module

import pytest

import helpers.findings

MODULES = [
    f"helpers.findings.{module.name}" for module in pkgutil.iter_modules(helpers.findings.__path__)
]
PLAIN = {"collections", "dataclasses", "math", "typing", "__future__", "helpers"}


@pytest.mark.parametrize("name", MODULES)
def test_no_model_no_tensor_no_printing(name):
    tree = ast.parse(inspect.getsource(import_module(name)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= PLAIN
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.module.partition(".")[0] in PLAIN
            if node.module.startswith("helpers"):
                assert node.module.startswith(("helpers.wording", "helpers.findings"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "say")


@pytest.mark.parametrize("name", MODULES)
def test_each_is_documented_and_returns_text(name):
    module = import_module(name)
    for called, function in inspect.getmembers(module, inspect.isfunction):
        if not called.startswith("_") and function.__module__ == name:
            assert inspect.getdoc(function)
            assert function.__annotations__["return"] in ("str", "list[str]")
