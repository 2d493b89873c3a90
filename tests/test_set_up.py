"""Set-up with uv: what it gets of pip's settings, where PyTorch comes from, and the way back to pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.notebooks import set_up


def test_settings_of_the_environment_go_before_those_of_files():
    listing = """
:env:.find-links='/wheels'
global.find-links='/old /older'
global.index-url='https://general.example/simple'
install.index-url='https://own.example/simple'
global.extra-index-url='https://a.example\\nhttps://b.example'
freeze.timeout='3'
"""
    assert set_up.pip_settings(listing) == {
        "find-links": "/wheels",
        "index-url": "https://own.example/simple",
        "extra-index-url": "https://a.example\nhttps://b.example",
    }


def test_this_pips_own_listing_is_read(monkeypatch):
    """Not a listing of ours: what the pip of this Python prints for its variables."""
    monkeypatch.setenv("PIP_FIND_LINKS", "/one it's/two")
    monkeypatch.setenv("PIP_INDEX_URL", "https://own.example/simple")
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = set_up.pip_settings(listing)
    assert settings["find-links"] == "/one it's/two"
    assert settings["index-url"] == "https://own.example/simple"


def test_uv_gets_them_under_its_own_names(tmp_path):
    settings = {
        "index-url": "https://own.example/simple",
        "extra-index-url": f"file:///no/such/place {tmp_path.as_uri()}",
        "find-links": "/wheels /more",
        "cert": "/ca.pem",
        "user": "false",
    }
    assert set_up.for_uv(settings, {"SSL_CERT_FILE": "/mine.pem", "HOME": "/h"}) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://own.example/simple",
        "UV_INDEX": tmp_path.as_uri(),
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/mine.pem",
        "HOME": "/h",
    }
    assert "UV_INDEX" not in set_up.for_uv({"extra-index-url": "file:///no/such/place"}, {})


@pytest.mark.parametrize(
    ("settings", "environment", "platform", "gpu", "wanted"),
    [
        ({}, {}, "linux", None, True),
        ({"cert": "/ca.pem"}, {}, "linux", None, True),
        ({}, {}, "linux", "/usr/bin/nvidia-smi", False),
        ({}, {}, "darwin", None, False),
        ({"find-links": "/wheels"}, {}, "linux", None, False),
        ({}, {"UV_INDEX": "https://own.example"}, "linux", None, False),
        ({}, {"UV_TORCH_BACKEND": "cu126"}, "linux", None, False),
    ],
)
def test_the_cpu_build_is_looked_for(monkeypatch, settings, environment, platform, gpu, wanted):
    monkeypatch.setattr(set_up.sys, "platform", platform)
    monkeypatch.setattr(set_up.shutil, "which", lambda name: gpu)
    assert set_up.wants_cpu_build(settings, environment) is wanted


@pytest.mark.parametrize(
    ("fails", "last", "said"),
    [
        ("nothing", "uv", ""),
        ("constraints.txt uv", "pip", "pip is slower"),
        ("uv pip", "pip", "pip is slower"),
        ("--torch-backend", "uv", "one with CUDA follows"),
        ("anything", "pip", "pip is slower"),
    ],
)
def test_what_cannot_be_had_is_said_and_replaced(monkeypatch, capsys, fails, last, said):
    commands = []

    def run(command, **_):
        commands.append(command[2:])
        text = " ".join(command)
        failed = fails in text or (fails == "anything" and "config" not in text)
        return subprocess.CompletedProcess(command, int(failed), stdout="")

    monkeypatch.setattr(set_up.subprocess, "run", run)
    monkeypatch.setattr(set_up, "wants_cpu_build", lambda *_: True)
    status = set_up.main(["--editable", "."])
    assert commands[-1][0] == last
    assert commands[-1][-2:] == ["--editable", "."]
    assert status == (fails == "anything")
    assert said in capsys.readouterr().out


def test_it_runs_before_anything_is_installed():
    """By an interpreter that sees neither this project nor any package."""
    code = f"import runpy; runpy.run_path({str(Path(set_up.__file__))!r}, run_name='set_up')"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
