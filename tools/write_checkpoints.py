"""Write checkpoints of known models as other tools would: `python -m tools.write_checkpoints [MODEL[:KIND] ...] [--to DIR]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_kick.catalog import find_model
from pytest_kick.models.cache import ModelCache
from tools.write_compressed import SCHEMES, write_compressed
from tools.write_gguf import KINDS, write_gguf

ROOT = Path(__file__).parents[1]
DEFAULT = (
    *("tiny-decoder:q4_0", "tiny-decoder:q5_0", "tiny-decoder:q8_0", "tiny-decoder:w4a16", "tiny-decoder:w8a8"),
    *("tiny-encoder:w4a16", "tiny-encoder-decoder:w4a16"),
)
"""What `suites/checkpoints.toml` names."""


def write(cache: ModelCache, wanted: str, directory: Path) -> Path:
    """Write one checkpoint.

    Args:
        cache: gives the dense model.
        wanted: name of a model, and a kind of GGUF (LLaMA only) or a scheme of compressed-tensors: `tiny-decoder:q4_0`.
        directory: receives it.

    Returns:
        Where it lies: `MODEL-KIND.gguf` or `MODEL-KIND/`.
    """
    name, _, kind = wanted.partition(":")
    if kind not in {*KINDS, *SCHEMES}:
        message = f"{wanted}: expected MODEL:KIND with one of {', '.join((*KINDS, *SCHEMES))}"
        raise SystemExit(message)
    model = cache.get(find_model(name, "write_checkpoints"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (f"{name}-{kind}.gguf" if kind in KINDS else f"{name}-{kind}")
    (write_gguf if kind in KINDS else write_compressed)(model, path, kind)
    return path


def main() -> None:
    """Write what the command line names, or what the suite needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="*", default=DEFAULT, metavar="MODEL:KIND")
    parser.add_argument("--to", type=Path, default=ROOT / ".kick" / "checkpoints", metavar="DIR")
    arguments = parser.parse_args()
    cache = ModelCache(ROOT / ".kick" / "cache")
    for wanted in arguments.wanted:
        print(f"wrote {write(cache, wanted, arguments.to)}")


if __name__ == "__main__":
    main()
