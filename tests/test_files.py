"""What cannot be written says where, why and what to do, and leaves nothing half-written behind.

Permissions, a full disk and a limit are real ones, met by child processes (tests/unprivileged.py).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from filelock import FileLock

from helpers import embedded, files, models
from helpers.atlas import __main__ as atlas_command
from helpers.atlas.table import Atlas, make_table
from helpers.embedded import MANIFEST, ModelUnavailableError
from helpers.files import NotWrittenError, check_writable, why_not_written, write_file, write_files
from helpers.notebooks import render, site
from tests import unprivileged
from tests.gpt2_shape import move_into_cache
from tests.test_render import SOURCE
from tests.test_silent_hub import NAME, SilentHub

FOLDER = f"smollm2-135m-{embedded.sha256(embedded._installed_gguf_folder() / embedded.GGUF_FILE)[:16]}"

# The model that is "unpacked" is a few bytes, or some megabytes; nothing else of the way is changed.
UNPACK = """
import sys
from pathlib import Path
from helpers import embedded

def convert(gguf_folder, target):
    import torch
    from safetensors.torch import save_file
    target.mkdir()
    save_file({"weight": torch.zeros(1_000_000)}, target / "model.safetensors")

embedded._convert_weights, embedded._convert_tokenizer = convert, lambda gguf_folder, target: None
"""
ASK = "print(embedded.embedded_model_folder(progress=False))"


@pytest.fixture
def home(tmp_path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def unpacked(cache: Path) -> Path:
    """What is there after unpacking, as far as its name and its hashes say."""
    folder = cache / FOLDER
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / MANIFEST).write_text(json.dumps(embedded._hashes(folder)))
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- the embedded model ---------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [False, True], ids=["home", "DEMO_CACHE"])
def test_a_model_that_is_there_is_used_without_writing(home, tmp_path, moved):
    """In an image, or on a node, whose home is not ours to write to; and in a folder that is named."""
    cache = tmp_path / "image" if moved else home / ".cache" / "ioi-exploration-demos"
    folder = unpacked(cache)
    settings = {"HOME": str(home), "XDG_CACHE_HOME": ""} | ({"DEMO_CACHE": str(cache)} if moved else {})
    before = listing(tmp_path)
    with unprivileged.read_only(home), unprivileged.read_only(cache):
        done = unprivileged.run(f"{UNPACK}\n{ASK}", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("there", ["nothing", "a damaged one"])
def test_with_none_there_the_error_names_folder_reason_and_variable(home, there):
    cache = home / ".cache" / "ioi-exploration-demos"
    if there == "a damaged one":
        (unpacked(cache) / "model.safetensors").write_bytes(b"damaged")
    before = listing(home)
    with unprivileged.read_only(home):
        done = unprivileged.run(
            f"{UNPACK}\nsys.exit(embedded.main())", HOME=str(home), XDG_CACHE_HOME="", DEMO_CACHE=""
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for part in (str(cache), "this user may not write there", "Set DEMO_CACHE to a folder"):
        assert part in done.stderr
    assert ("damaged" in done.stderr) == (there == "a damaged one")
    assert listing(home) == before


def test_a_full_disk_under_the_embedded_model(tmp_path):
    code = f"{UNPACK}\nembedded.user_cache = lambda: Path({str(tmp_path)!r})\nsys.exit(embedded.main())"
    done = unprivileged.run_on_a_full_disk(code, tmp_path, megabytes=2)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{tmp_path} cannot be written to: the disk is full" in done.stderr
    assert done.stdout.split() == ["lock"], "nothing half-written"


def test_a_file_that_may_not_grow_is_a_limit_like_a_quota(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    done = unprivileged.run(f"{UNPACK}\n{limit}\nsys.exit(embedded.main())", DEMO_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path} cannot be written to: a file would be larger" in done.stderr
    assert listing(tmp_path) == ["lock"]


def test_a_process_that_stands_still_while_it_unpacks_is_not_waited_for_without_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(embedded, "UNPACKING_SECONDS", 0.2)
    # Without a limit this would end the wait, and the test would fail.
    other = FileLock(tmp_path / "lock", thread_local=False)
    other.acquire()
    last_resort = threading.Timer(30, other.release)
    last_resort.start()
    try:
        with pytest.raises(ModelUnavailableError, match=r"another process has held .*lock for"):
            embedded.embedded_model_folder(tmp_path)
    finally:
        last_resort.cancel()
        other.release()


def test_without_a_name_the_error_says_what_became_of_either_model(monkeypatch, tmp_path):
    """load_model() promises the best that can be had: here there is none."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEMO_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("DEMO_MODEL", raising=False)
    with pytest.raises(ModelUnavailableError, match="No model can be had here") as caught:
        models.load_model()
    for part in (
        "gpt2: the hub was not asked",
        f"{tmp_path / 'file'} cannot be written to",
        "DEMO_CACHE",
    ):
        assert part in str(caught.value)


# --- the hub's cache ------------------------------------------------------------------------------

FIND = "import sys; from helpers.model_folder import find_model; print(find_model(sys.argv[1], 5.0)[1])"


def test_a_copy_in_a_hub_cache_that_cannot_be_written_to_is_used(home):
    download = home / "download"
    download.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (download / name).write_text(name)
    snapshot = move_into_cache(download, home / ".cache" / "huggingface" / "hub" / "models--o--n")
    shutil.rmtree(download)
    settings = {"HOME": str(home), "HF_HOME": "", "HF_HUB_CACHE": "", "XDG_CACHE_HOME": ""}
    environment = {**settings, "HF_HUB_OFFLINE": "1"}
    before = listing(home)
    with unprivileged.read_only(home):
        done = unprivileged.run(_without_empty(FIND), "o/n", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(snapshot)
    assert listing(home) == before


def _without_empty(code: str) -> str:
    """The hub's client takes an empty variable for a folder."""
    return (
        f"import os\nfor k in [k for k, v in os.environ.items() if v == '']: del os.environ[k]\n{code}"
    )


FETCH = (
    "import sys; sys.argv = ['fetch', sys.argv[1]]; from helpers import fetch; sys.exit(fetch.main())"
)


def test_a_model_that_is_fetched_into_a_home_that_cannot_be_written_to(home):
    """From a hub that would serve it: no waiting for what will not pass, and nothing left behind."""
    hub = SilentHub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    settings = {"HOME": str(home), "HF_HOME": "", "HF_HUB_CACHE": "", "XDG_CACHE_HOME": ""}
    settings |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "NO_PROXY": "127.0.0.1"}
    with unprivileged.read_only(home):
        done = unprivileged.run(_without_empty(FETCH), NAME, **settings, HF_HUB_OFFLINE="")
    hub.shutdown()
    hub.server_close()
    cache = home / ".cache" / "huggingface" / "hub"
    assert done.returncode == 1, "not the status of a temporary failure"
    assert f"the hub cache {cache} cannot be written to: this user may not write there" in done.stderr
    assert "HF_HOME moves it" in done.stderr
    assert listing(home) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_download_that_cannot_be_written_names_the_cache_and_its_variable(
    number, tmp_path, monkeypatch
):
    def download(name, timeout, local_files_only=False):
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr("helpers.model_folder._download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelUnavailableError, match="HF_HOME moves it") as caught:
        models.find_model("o/n", 1.0)
    assert f"the hub cache {tmp_path / 'hub'} cannot be written to" in str(caught.value)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EACCES, "may not write"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "larger than is allowed"),
        (errno.ENOTDIR, "a file where a folder"),
        (errno.EIO, "reports an error"),
    ],
)
def test_why_a_file_was_not_written(number, why):
    said = os.strerror(number)
    for error in (
        OSError(number, said),
        RuntimeError(f"Error while serializing: I/O error: {said} (os error {number})"),
        shutil.Error([("a", "b", str(OSError(number, said)))]),
    ):
        assert why in why_not_written(error)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "none"), ValueError("28"), OSError("no number")]
)
def test_other_errors_are_not_explained_away(error):
    assert why_not_written(error) is None
    with pytest.raises(type(error)) as caught, files.writing_to("somewhere"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(errno.EDQUOT, "quota"), KeyboardInterrupt()])
def test_files_that_belong_together_are_written_together_or_not_at_all(
    tmp_path, monkeypatch, fails_at, error
):
    paths = [tmp_path / "new" / "a", tmp_path / "b", tmp_path / "c"]
    paths[1].write_text("old")
    written, write_bytes = [], Path.write_bytes

    def half(path: Path, content: bytes) -> None:
        written.append(path)
        write_bytes(path, content[:1])
        if len(written) == fails_at:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises((NotWrittenError, KeyboardInterrupt)):
            write_files(dict.fromkeys(paths, "content"))
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["old"]
    write_files(dict.fromkeys(paths, "content"))
    assert [path.read_text() for path in paths] == ["content"] * 3


def test_a_file_where_a_folder_has_to_be(tmp_path):
    (tmp_path / "build").write_text("a file")
    for attempt in (
        lambda: write_file(tmp_path / "build" / "x", "x"),
        lambda: check_writable(tmp_path / "build" / "x"),
    ):
        with pytest.raises(
            NotWrittenError, match=r"build.* cannot be written to: there is a file where"
        ):
            attempt()


def test_asking_leaves_nothing(tmp_path):
    check_writable(tmp_path / "build" / "site")
    assert list(tmp_path.iterdir()) == []


IN_PLACE = (
    "import sys; sys.argv = ['render', '--in-place', sys.argv[1]]; "
    "from helpers.notebooks.render import main; main()"
)


@pytest.mark.slow
def test_a_demo_is_not_executed_where_its_notebook_could_not_be_written(tmp_path):
    source = tmp_path / "Tiny_Demo.py"
    source.write_text("# %%\nraise SystemError('executed')\n")
    with unprivileged.read_only(tmp_path):
        done = unprivileged.run(IN_PLACE, str(source))
    assert done.returncode == 1
    assert f"The folder {tmp_path} cannot be written to: this user may not write there" in done.stderr
    assert "Run it in a copy of the repository" in done.stderr
    assert "Traceback" not in done.stderr
    assert "SystemError" not in done.stderr
    assert listing(tmp_path) == ["Tiny_Demo.py"]


@pytest.mark.parametrize("writer", ["render", "site", "atlas"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(
    tmp_path, monkeypatch, capsys, writer
):
    """By each command, in a sentence, whatever the reason; here a file is in the folder's place."""
    source = tmp_path / "Tiny_Demo.py"
    source.write_text("# %%\nraise SystemError('executed')\n")
    opening = nbformat.v4.new_markdown_cell("# A title\n\nA promise.")
    nbformat.write(nbformat.v4.new_notebook(cells=[opening]), tmp_path / "A_Demo.ipynb")
    (tmp_path / "build").write_text("a file")
    out = str(tmp_path / "build" / "here")
    before = listing(tmp_path)
    command: dict[str, tuple[Callable[[], Any], list[str]]] = {
        "render": (render.main, ["--out", out, str(source)]),
        "site": (site.main, ["--out", f"{out}/site", "--demos", str(tmp_path)]),
        "atlas": (atlas_command.main, ["--out", out, "--model", "./no-such"]),
    }
    main, arguments = command[writer]
    monkeypatch.setattr("sys.argv", [writer, *arguments])
    try:
        said = main()
    except SystemExit as end:
        said = end.code
    said = f"{said} {capsys.readouterr().err}"
    assert f"The folder {out} cannot be written to: there is a file where a folder has to be." in said
    assert "--out FOLDER" in said
    assert listing(tmp_path) == before


def test_a_disk_that_is_full_in_the_end_leaves_the_old_notebook_and_page(tmp_path, monkeypatch):
    source = tmp_path / "Tiny_Demo.py"
    source.write_text(SOURCE)
    old = [source.with_suffix(suffix) for suffix in (".ipynb", ".html")]
    for path in old:
        path.write_text("old")
    monkeypatch.setattr(render, "_executed", lambda source, model: render.read_source(source))
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".html" in path.name:
            write_bytes(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NotWrittenError, match="the disk is full"):
        render.render(source, tmp_path, "smollm2-135m")
    assert [path.read_text() for path in old] == ["old", "old"]
    assert listing(tmp_path) == ["Tiny_Demo.html", "Tiny_Demo.ipynb", "Tiny_Demo.py"]


def test_an_atlas_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    atlas = Atlas(make_table("m", {"s": torch.zeros(1, 2)}, 1, 2), {"model": "m"})
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".json" in path.name:  # the last of three
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(NotWrittenError, match="the disk is full"):
            atlas.write(tmp_path)
    assert listing(tmp_path) == []
    assert len(atlas.write(tmp_path)) == 3


def test_a_site_that_cannot_be_made_leaves_the_old_one_and_no_work(tmp_path):
    opening = nbformat.v4.new_markdown_cell("# A title\n\nA promise.\n\n[nowhere](#no-such-heading)")
    nbformat.write(nbformat.v4.new_notebook(cells=[opening]), tmp_path / "Broken_Demo.ipynb")
    out = tmp_path / "build" / "site"
    out.mkdir(parents=True)
    (out / "index.html").write_text("old")
    with pytest.raises(RuntimeError, match="without a warning"):
        site.build(tmp_path, Path(site.__file__).parent / "web", out, "o/n")
    assert listing(tmp_path / "build") == ["site", "site/index.html"]
