"""Set-up with uv: what it gets of pip's settings, where PyTorch comes from, and the way back to pip."""

from __future__ import annotations

import subprocess
import sys
import zipfile
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
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
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
        ("--torch-backend", "uv", "No CPU build of PyTorch could be had"),
        ("anything", "pip", "pip is slower"),
    ],
)
def test_what_cannot_be_had_is_said_and_replaced(monkeypatch, capsys, fails, last, said):
    commands = []

    def run(command, **_):
        commands.append(command[2:])
        text = " ".join(command)
        failed = fails in text or (fails == "anything" and "config" not in text)
        return subprocess.CompletedProcess(command, int(failed), stdout="", stderr="")

    monkeypatch.setattr(set_up.subprocess, "run", run)
    monkeypatch.setattr(set_up, "wants_cpu_build", lambda *_: True)
    status = set_up.main(["--editable", "."])
    assert commands[-1][0] == last
    assert commands[-1][-2:] == ["--editable", "."]
    assert status == (fails == "anything")
    assert said in capsys.readouterr().out


def test_pip_does_not_stand_in_for_the_lowest_versions(monkeypatch, capsys):
    """It would install the highest ones, and nobody would notice."""
    commands = []

    def run(command, **_):
        commands.append(command[2])
        return subprocess.CompletedProcess(command, int("uv" in command[:3]), stdout="", stderr="")

    monkeypatch.setattr(set_up.subprocess, "run", run)
    monkeypatch.setenv("UV_RESOLUTION", "lowest-direct")
    assert set_up.main(["--editable", "."]) == 1
    assert commands[-1] == "uv"
    assert "pip does not know UV_RESOLUTION" in capsys.readouterr().out


PLAN = """Resolved 5 packages in 12ms
Would download 4 packages
Would install 5 packages
 + einops==0.8.2
 + nvidia-cublas-cu12==12.8.4.1
 + nvidia-nccl-cu12==2.27.5
 + torch==2.13.0
 + triton==3.5.0
"""


@pytest.mark.parametrize("plan", [PLAN, PLAN.replace("nvidia-", "x-").replace("triton", "y")])
@pytest.mark.parametrize("gpu", [None, "/usr/bin/nvidia-smi"])
def test_gigabytes_of_cuda_are_said_before_they_are_fetched(monkeypatch, capsys, plan, gpu):
    """Places of the user's own are asked first; that they hold no CPU build shows in uv's plan."""
    said_before = []

    def run(command, **_):
        said_before.append((command, capsys.readouterr().out))
        return subprocess.CompletedProcess(
            command, 0, stdout="global.index-url='https://own'", stderr=plan
        )

    monkeypatch.setattr(set_up.subprocess, "run", run)
    monkeypatch.setattr(set_up.shutil, "which", lambda name: gpu)
    monkeypatch.setattr(set_up.sys, "platform", "linux")
    assert set_up.main(["--editable", "."]) == 0
    command, said = said_before[-1]
    assert command[-3:] == ["--quiet", "--editable", "."], "then it goes on"
    expected = plan == PLAN and gpu is None
    assert ("3 packages (nvidia-cublas-cu12 and others)" in said) == expected
    assert ("UV_TORCH_BACKEND=cpu" in said) == expected


def test_uv_writes_its_plan_as_it_is_read(tmp_path):
    """The plan of the uv that is installed here, for a wheel made for it and named like CUDA's."""
    with zipfile.ZipFile(tmp_path / "nvidia_made_up-1.0-py3-none-any.whl", "w") as wheel:
        about = "nvidia_made_up-1.0.dist-info"
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: nvidia-made-up\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    command = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--dry-run", "--no-index"]
    command += ["--python", sys.executable, "--find-links", str(tmp_path), "nvidia-made-up"]
    plan = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    assert set_up.cuda_packages(plan) == ["nvidia-made-up"]


def test_it_runs_before_anything_is_installed():
    """By an interpreter that sees neither this project nor any package."""
    code = f"import runpy; runpy.run_path({str(Path(set_up.__file__))!r}, run_name='set_up')"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)
