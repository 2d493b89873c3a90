"""Write the head atlas of a model: ``python -m helpers.atlas --model NAME --out DIR``.

Writes ``NAME.csv`` and ``NAME.parquet`` (one row a head) and ``NAME.json`` (provenance and schema),
then ``NAME.attention.parquet`` and ``.json``, every head's attention on three example prompts. A run
that was interrupted goes on where it was. ``--published`` adds GPT-2 small's published scores, in files
of their own. Files of that name that are another model's, with other weights or another tokenizer, are
only written over with ``--replace``.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from transformer_lens.model_bridge import TransformerBridge

from helpers.atlas.build import Settings, build_files
from helpers.atlas.examples import SUFFIX, build_examples
from helpers.atlas.identity import OtherModelError, check_place, model_identity
from helpers.atlas.published import STEM, published_atlas
from helpers.atlas.table import file_stem
from helpers.embedded import ModelUnavailableError
from helpers.files import NotWrittenError, check_writable
from helpers.models import load_model


def _check_places(model: TransformerBridge, out: Path) -> None:
    """Of the table and of the example prompts, also where one of them is to be left as it is."""
    stem, identity = file_stem(model.cfg.model_name), model_identity(model)
    for name in (stem, stem + SUFFIX):
        check_place(out, name, identity)


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.atlas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="hub name, folder, or smollm2-135m (as for load_model)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--device", help="cpu, cuda, cuda:1")
    parser.add_argument("--device-map", help="for models larger than one device: auto")
    parser.add_argument("--published", action="store_true", help="write the published scores as well")
    parser.add_argument(
        "--examples-only", action="store_true", help="leave the table as it is; example prompts alone"
    )
    parser.add_argument(
        "--replace", action="store_true", help="write over another model's files of the same name"
    )
    defaults = Settings()
    for name, default in vars(defaults).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, help=f"default: {default}")
    arguments = parser.parse_args()
    try:
        return _write(arguments)
    except NotWrittenError as error:
        print(f"{error} Name another one: --out FOLDER.", file=sys.stderr)
        return 1


def _write(arguments: argparse.Namespace) -> int:
    """Load, measure and write; the exit status."""
    start = time.monotonic()
    check_writable(arguments.out)
    try:
        settings = Settings(**{name: getattr(arguments, name) for name in vars(Settings())})
        model = load_model(arguments.model, device=arguments.device, device_map=arguments.device_map)
    except (ModelUnavailableError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        if not arguments.replace:
            _check_places(model, arguments.out)
        written = []
        if not arguments.examples_only:
            written += build_files(model, arguments.out, settings, replace=arguments.replace)
    except OtherModelError as error:
        print(error, file=sys.stderr)
        return 1
    written += build_examples(model, seed=settings.seed).write(arguments.out)
    if arguments.published:
        written += published_atlas().write(arguments.out, STEM)
    for path in written:
        print(f"wrote {path}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )
    print(f"{time.monotonic() - start:.0f} s with loading, at most {peak:.1f} GiB of memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
