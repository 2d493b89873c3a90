"""Install as ``pip install`` would, in a tenth of the time: with uv, which gets pip's settings.

``.venv/bin/python helpers/notebooks/set_up.py --editable '.[notebooks]'``. It is run as a file, by the
interpreter of the environment, before anything is in it: the standard library must do.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

# uv's own variables for what pip calls so; uv reads none of pip's. Those that hold lists, and how.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
COMMAS = {"find-links"}
PLACES = {"index-url", "extra-index-url", "find-links", "no-index"}  # where packages come from


def pip_settings(listing: str) -> dict[str, str]:
    """The settings that hold for ``pip install``, from what ``pip config list`` prints.

    A variable of the environment goes before a file's part on installing, and that before its general
    part.
    """
    ranks = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.+)", line.strip())
        if match:
            section, option, value = match.groups()
            candidate = (ranks[section], str(ast.literal_eval(value)))
            option = option.replace("_", "-")
            found[option] = max(found.get(option, candidate), candidate, key=lambda entry: entry[0])
    return {option: value for option, (_, value) in found.items()}


def for_uv(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv does what pip would; uv's own variables stay where they are set."""
    # pip takes the newest version from all places; uv by itself stops at the first that has any.
    result = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for option, variable in VARIABLES.items():
        # A place that does not exist is left out by pip and is an error for uv.
        entries = [entry for entry in settings.get(option, "").split() if _may_exist(entry)]
        if entries:
            result[variable] = ("," if option in COMMAS else " ").join(entries)
    return {**result, **environment}


def _may_exist(entry: str) -> bool:
    place = urlsplit(entry)
    return place.scheme != "file" or Path(url2pathname(place.path)).exists()


def wants_cpu_build(settings: Mapping[str, str], environment: Mapping[str, str]) -> bool:
    """Whether PyTorch's CPU build is to be looked for: Linux, no GPU, no other place named."""
    own = {"UV_INDEX", "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_TORCH_BACKEND"} & set(environment)
    return _without_gpu() and not PLACES & set(settings) and not own


def _without_gpu() -> bool:
    """Whether PyPI's PyTorch would bring CUDA libraries to a machine that cannot use them."""
    return sys.platform == "linux" and not shutil.which("nvidia-smi")


def cuda_packages(plan: str) -> list[str]:
    """The CUDA libraries among what ``uv pip install --dry-run`` says it would install."""
    return re.findall(r"^ \+ (nvidia-[\w-]+|cuda-[\w-]+|triton)==", plan, flags=re.MULTILINE)


def _announce_cuda(plan: str) -> None:
    """Nobody without a GPU wants these gigabytes; whoever gets them is to know why, and the way out."""
    packages = cuda_packages(plan)
    if packages:
        print(
            f"PyTorch is coming with CUDA: {len(packages)} packages ({packages[0]} and others), "
            "gigabytes that are of no use without an NVIDIA GPU. To have the CPU build instead, stop "
            "this and set UV_TORCH_BACKEND=cpu, or name a place that has it (PIP_INDEX_URL, "
            "PIP_FIND_LINKS).",
            flush=True,
        )


def main(arguments: list[str]) -> int:
    """Entry point; the exit status of the installer that had the last word.

    Where the variable UV_RESOLUTION asks for the lowest versions, pip cannot stand in for uv.
    """
    pip = [sys.executable, "-m", "pip"]
    listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout
    settings = pip_settings(listing)
    got = subprocess.run([*pip, "install", "--quiet", "--constraint", "constraints.txt", "uv"])
    if got.returncode == 0:
        command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
        environment = for_uv(settings, os.environ)
        if wants_cpu_build(settings, os.environ):
            cpu = [*command, "--quiet", "--torch-backend", "cpu", *arguments]
            if subprocess.run(cpu, env=environment).returncode == 0:
                return 0
            print("No CPU build of PyTorch could be had.", flush=True)
        if _without_gpu():
            dry = [*command, "--dry-run", *arguments]
            _announce_cuda(subprocess.run(dry, env=environment, capture_output=True, text=True).stderr)
        if subprocess.run([*command, "--quiet", *arguments], env=environment).returncode == 0:
            return 0
    if "UV_RESOLUTION" in os.environ:
        print("uv could not do it, and pip does not know UV_RESOLUTION.", flush=True)
        return 1
    print("uv could not do it; pip is slower, and goes on.", flush=True)
    return subprocess.run([*pip, "install", "--quiet", *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
