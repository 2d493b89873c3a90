"""Building an atlas: group after group of scores, each kept on disk as soon as it is measured."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas import attention, induction, ioi_roles, weights
from helpers.atlas.identity import check_place, model_identity, other_model
from helpers.atlas.inputs import REPEATS, passages, prefix_tokens, sampled_tokens, token_range
from helpers.atlas.scores import Measured, describe
from helpers.atlas.table import ERROR, VERSIONS, Atlas, file_stem, make_table, read_atlas
from helpers.files import check_writable, write_file
from helpers.head_scores import repeated_random_tokens
from helpers.identity import untold
from helpers.readout import check_heads
from helpers.work import Pool, Run, Work, finished


@dataclass(frozen=True)
class Settings:
    """Seed and sample sizes. The defaults take a minute for SmolLM2-135M on two cores.

    Attributes:
        seed: of all random tokens and names.
        rows: of random tokens, for the scores on repeated tokens.
        length: of a row before it is repeated.
        block: tokens that are repeated four times, for prefix matching.
        passages: of text, at most twelve.
        tokens: sampled for the circuits.
        ioi_pairs: of IOI prompts.

    Example:
        >>> Settings(length=10_000).fitted(model).length == model.cfg.n_ctx // 2
        True
    """

    seed: int = 0
    rows: int = 12
    length: int = 100
    block: int = 25
    passages: int = 12
    tokens: int = 256
    ioi_pairs: int = 8

    def __post_init__(self) -> None:
        least = {"rows": 2, "length": 2, "block": 2, "passages": 2, "tokens": 2, "ioi_pairs": 2}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"{name} must be at least {smallest}, or there is no error estimate; "
                    f"got {getattr(self, name)}."
                )
        if self.passages > 12:
            raise ValueError(f"There are twelve passages; got passages={self.passages}.")

    def fitted(self, model: TransformerBridge) -> Settings:
        """These settings, with rows no longer than the model's context and vocabulary allow."""
        low, high = token_range(model)
        values = asdict(self)
        values["length"] = min(self.length, model.cfg.n_ctx // 2)
        values["block"] = min(self.block, (model.cfg.n_ctx - 1) // REPEATS, high - low)
        values["tokens"] = min(self.tokens, high - low)
        return Settings(**values)


Measure = Callable[[TransformerBridge, Settings, bool | None], dict[str, Measured]]


@dataclass(frozen=True)
class Group:
    """Scores that are measured together: the functions that define them, and the one that runs them.

    Attributes:
        direct: the scores among them that read direct effects off ``z W_O``.

    Example:
        >>> [score.__name__ for score in GROUPS["prefix matching and copying"].scores]
        ['prefix_matching', 'prefix_copying']
    """

    scores: Sequence[Callable[..., Tensor]]
    measure: Measure
    direct: bool = False


def _repeated(model: TransformerBridge, settings: Settings, progress: bool | None):
    scores = {score.__name__: score for score in attention.REPEATED_SCORES}
    return attention.pattern_samples(model, _repeated_tokens(model, settings), scores, progress=progress)


def _logit(model: TransformerBridge, settings: Settings, progress: bool | None):
    tokens = _repeated_tokens(model, settings)
    return {"induction_logit": induction.induction_logit_samples(model, tokens, progress=progress)}


def _prefix(model: TransformerBridge, settings: Settings, progress: bool | None):
    low_high = token_range(model)
    tokens = prefix_tokens(model, settings.rows, settings.block, settings.seed, *low_high)
    return induction.prefix_samples(model, tokens, progress=progress)


def _text(model: TransformerBridge, settings: Settings, progress: bool | None):
    scores = {score.__name__: score for score in attention.TEXT_SCORES}
    return attention.pattern_samples(
        model, passages(model, settings.passages), scores, progress=progress
    )


def _eigenvalues(model: TransformerBridge, settings: Settings, progress: bool | None):
    low, high = token_range(model)
    # Eight samples of 1024 tokens, or as many as there are.
    size = min(1024, (high - low) // 8)
    tokens = sampled_tokens(8 * size, settings.seed, low, high).reshape(8, size)
    return {
        "ov_eigenvalue": weights.ov_eigenvalues(model),
        "copying_eigenvalue": weights.eigenvalue_samples(model, tokens, progress=progress),
    }


def _circuits(model: TransformerBridge, settings: Settings, progress: bool | None):
    tokens = sampled_tokens(settings.tokens, settings.seed, *token_range(model))
    return weights.token_samples(model, tokens, progress=progress)


def _ioi_run(model: TransformerBridge, settings: Settings, progress: bool | None):
    prompts = ioi_roles.sampled_prompts(model, settings.ioi_pairs, settings.seed)
    return ioi_roles.attention_and_attribution(model, prompts)


def _ioi_patching(model: TransformerBridge, settings: Settings, progress: bool | None):
    prompts = ioi_roles.sampled_prompts(model, settings.ioi_pairs, settings.seed)
    return {"ioi_patching": ioi_roles.patching(model, prompts, progress=progress)}


def _repeated_tokens(model: TransformerBridge, settings: Settings) -> Tensor:
    low, high = token_range(model)
    options = {"batch": settings.rows, "length": settings.length, "seed": settings.seed}
    return repeated_random_tokens(model, **options, low=low, high=high)


GROUPS = {
    "attention on repeated tokens": Group(attention.REPEATED_SCORES, _repeated),
    "induction logits": Group([induction.induction_logit], _logit, direct=True),
    "prefix matching and copying": Group(
        [induction.prefix_matching, induction.prefix_copying], _prefix, direct=True
    ),
    "attention on text": Group(attention.TEXT_SCORES, _text),
    "OV eigenvalues": Group(
        [weights.ov_eigenvalue, weights.copying_eigenvalue], _eigenvalues, direct=True
    ),
    "OV and QK circuits": Group([weights.qk_same_token, *weights.OV_SCORES], _circuits, direct=True),
    "IOI attention and attribution": Group(
        [ioi_roles.ioi_attribution, *ioi_roles.ATTENTION_SCORES.values()], _ioi_run, direct=True
    ),
    "IOI patching": Group([ioi_roles.ioi_patching], _ioi_patching),
}


def build_atlas(
    model: TransformerBridge,
    settings: Settings | None = None,
    *,
    groups: Sequence[str] | None = None,
    parts: Path | None = None,
    progress: bool | None = None,
    on: Pool | None = None,
) -> Atlas:
    """Measure every score of every head.

    Args:
        model: any causal decoder that :func:`helpers.models.load_model` loads, in eval mode.
        settings: seed and sample sizes; by default :class:`Settings`.
        groups: of :data:`GROUPS`, to measure those alone.
        parts: folder in which finished groups are kept, and looked for first, so that an interrupted
            run goes on where it was. The caller removes it.
        progress: show bars. ``None``: in a terminal or a notebook.
        on: :class:`helpers.cluster.Workers`, each of which measures a group at a time; ``None`` for this
            process.

    Raises:
        ValueError: for a group that does not exist, or a model in training mode.

    Example:
        >>> few = Settings(rows=2, length=10)
        >>> atlas = build_atlas(model, few, groups=["attention on repeated tokens"])
        >>> atlas.scores
        ['previous_token', 'duplicate_token', 'induction']
    """
    unknown = set(groups or ()) - GROUPS.keys()
    if unknown:
        raise ValueError(f"No group {', '.join(sorted(unknown))}; there is {', '.join(GROUPS)}.")
    if model.training:
        raise ValueError("The model is in training mode: call model.eval() first.")
    settings = (settings or Settings()).fitted(model)
    chosen = {name: GROUPS[name] for name in groups or GROUPS}
    nonlinear = _direct_effect_fault(model) if any(g.direct for g in chosen.values()) else None
    identity = model_identity(model)
    measured: dict[str, Measured] = {}
    unavailable: dict[str, str] = {}
    to_measure = []
    for name, group in chosen.items():
        if group.direct and nonlinear:
            unavailable |= _without(group, nonlinear)
        elif found := _stored(parts, name, _key(model, settings, name, identity)):
            measured |= found
        else:
            to_measure.append(name)
    sizes = [1] * len(to_measure)
    work = Work(
        "head atlas",
        _Groups(settings, progress if on is None else False),
        to_measure,
        to_measure,
        sizes,
        kept=False,
    )
    for index, outcome in finished(model, work, on=on, progress=progress):
        name = to_measure[index]
        if isinstance(outcome, str):
            unavailable |= _without(chosen[name], outcome)
        else:
            measured |= outcome
            _store(parts, name, _key(model, settings, name, identity), outcome)
    functions = {score.__name__: score for group in chosen.values() for score in group.scores}
    unavailable = {name: unavailable[name] for name in functions if name in unavailable}
    info = _provenance(model, settings, identity, functions, measured, unavailable)
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    missing = torch.full(shape, torch.nan)
    columns = {n: measured[n].value if n in measured else missing for n in functions}
    columns |= {n + ERROR: measured[n].error if n in measured else missing for n in functions}
    return Atlas(make_table(model.cfg.model_name, columns, *shape), info)


@dataclass(frozen=True)
class _Groups:
    """What measuring a group takes. A task is its name; it gives scores, or why there are none."""

    settings: Settings
    progress: bool | None

    def prepare(self, model: TransformerBridge) -> Run:
        def run(name: str, tick: Callable[..., object]) -> dict[str, Measured] | str:
            try:
                found = GROUPS[name].measure(model, self.settings, self.progress)
                _check_finite(model, found)
            except (NotImplementedError, ValueError) as error:
                return str(error)
            finally:
                tick()
            return found

        return run


def _without(group: Group, why: str) -> dict[str, str]:
    return {score.__name__: why for score in group.scores}


def load_or_build(
    model: TransformerBridge,
    folder: Path | str,
    settings: Settings | None = None,
    *,
    progress: bool | None = None,
    on: Pool | None = None,
) -> tuple[Atlas, bool]:
    """The atlas of this model that lies in a folder, or else one built now; and whether it was there.

    A stored one counts if it is of the same weights, tokenizer, settings and scores, whatever the models
    are called; one that does not count is said, and why. Nothing is written.

    Example:
        >>> small = Settings(rows=2, length=8, block=4, passages=2, tokens=16, ioi_pairs=2)
        >>> atlas, was_there = load_or_build(model, "atlas-folder", small)
        >>> was_there, len(atlas.table) == model.cfg.n_layers * model.cfg.n_heads
        (False, True)
    """
    path = Path(folder) / f"{file_stem(model.cfg.model_name)}.parquet"
    if path.is_file():
        stored = read_atlas(path)
        fault = _why_not(stored.info, model, settings or Settings())
        if fault is None:
            return stored, True
        print(f"NOTE: {path} is not used: {fault}. Every score is measured now.")
    return build_atlas(model, settings, progress=progress, on=on), False


def _why_not(info: dict[str, Any], model: TransformerBridge, settings: Settings) -> str | None:
    """Why a stored atlas is not what measuring would give; None if it is."""
    fault = other_model(info, model_identity(model), untold(model))
    if fault:
        return fault
    if info["settings"] != asdict(settings.fitted(model)):
        return "it was measured with other settings"
    functions = [score.__name__ for group in GROUPS.values() for score in group.scores]
    return None if list(info["scores"]) == functions else "it holds other scores"


def build_files(
    model: TransformerBridge,
    out: Path,
    settings: Settings | None = None,
    *,
    replace: bool = False,
    progress: bool | None = None,
    on: Pool | None = None,
) -> list[Path]:
    """Build an atlas and write it; finished groups survive an interruption. Returns the files.

    Args:
        model: as for :func:`build_atlas`.
        out: folder to write into; the files are called by the model's name.
        settings: as for :func:`build_atlas`.
        replace: write over files of that name which are another model's.
        progress, on: as for :func:`build_atlas`.

    Raises:
        NotWrittenError: if the folder cannot be written to; before anything is measured, if possible.
        OtherModelError: before anything is measured, if there are such files and `replace` is not given.

    Example:
        >>> small = Settings(rows=2, length=8, block=4, passages=2, tokens=16, ioi_pairs=2)
        >>> [path.suffix for path in build_files(model, Path("atlas-folder"), small)]
        ['.csv', '.parquet', '.json']
    """
    check_writable(out)
    identity = model_identity(model)
    stem = file_stem(model.cfg.model_name)
    if not replace:
        check_place(out, stem, identity)
    parts = out / f".{stem}.{_digest(identity)[:12]}.parts"
    atlas = build_atlas(model, settings, parts=parts, progress=progress, on=on)
    written = atlas.write(out)
    shutil.rmtree(parts, ignore_errors=True)
    return written


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _store(parts: Path | None, name: str, key: str, found: dict[str, Measured]) -> None:
    if parts is not None:
        tensors = {score: result.samples.contiguous() for score, result in found.items()}
        nulls = {score: repr(result.null) for score, result in found.items()}
        write_file(_part(parts, name), save(tensors, metadata={"key": key, **nulls}))


def _check_finite(model: TransformerBridge, found: dict[str, Measured]) -> None:
    bad = [score for score, result in found.items() if not result.samples.isfinite().all()]
    if bad:
        raise ValueError(f"{', '.join(bad)} of {model.cfg.model_name} came out as NaN or infinity.")


def _stored(parts: Path | None, name: str, key: str) -> dict[str, Measured] | None:
    if parts is None or not _part(parts, name).is_file():
        return None
    with safe_open(_part(parts, name), "pt") as file:
        metadata = file.metadata()
    if metadata.pop("key") != key:
        return None
    samples = load_file(_part(parts, name))
    return {score: Measured(samples[score], float(null)) for score, null in metadata.items()}


def _part(parts: Path, name: str) -> Path:
    return parts / f"{name.replace(' ', '-')}.safetensors"


def _key(model: TransformerBridge, settings: Settings, group: str, identity: dict[str, Any]) -> str:
    """What a stored group must agree in to be used; of a model that cannot be told, none agrees."""
    told = identity if identity["weights"] else secrets.token_hex()
    parts = [model.cfg.model_name, str(model.cfg.dtype), told, group, asdict(settings), _versions()]
    return _digest(parts)


def _versions() -> dict[str, str]:
    return {package: version(package) for package in VERSIONS}


def _provenance(
    model: TransformerBridge,
    settings: Settings,
    identity: dict[str, Any],
    functions: dict[str, Callable[..., Tensor]],
    measured: dict[str, Measured],
    unavailable: dict[str, str],
) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name, function in functions.items():
        found = measured.get(name)
        scores[name] = describe(function) | {
            "null_value": found.null if found else None,
            "samples": len(found.samples) if found else 0,
        }
    info = {
        "model": model.cfg.model_name,
        **identity,
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "n_layers": model.cfg.n_layers,
        "n_heads": model.cfg.n_heads,
        "settings": asdict(settings),
        "versions": _versions(),
        "scores": scores,
        "unavailable": unavailable,
    }
    if "ioi_attribution" in measured:
        prompts = ioi_roles.sampled_prompts(model, settings.ioi_pairs, settings.seed)
        value, error = ioi_roles.task_logit_diff(model, prompts)
        info["ioi_logit_diff"] = {"value": round(value, 4), "se": round(error, 4)}
    return info


def _direct_effect_fault(model: TransformerBridge) -> str | None:
    """Why a head has no direct effect on the logits to be read off its ``z W_O``; ``None`` if it has."""
    try:
        check_heads(model)
    except NotImplementedError as error:
        return str(error)
    return None
