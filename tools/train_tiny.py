"""Train and check the tiny models that the package ships.

Usage, from the root of the repository:
    python -m tools.train_tiny                    train all three into pytest_kick/data/models
    python -m tools.train_tiny tiny-encoder       train one
    python -m tools.train_tiny --check            what pruning leaves of the shipped ones
    python -m tools.train_tiny --twice 20         train 20 steps twice: are the bytes equal?
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tools.tiny import corpus, release, scoring, training
from tools.tiny.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

STRIDES = {"encoder": 1, "encoder-decoder": 6, "decoder": 6}
CLASSES = {"encoder": AutoModelForMaskedLM, "encoder-decoder": AutoModelForSeq2SeqLM, "decoder": AutoModelForCausalLM}


def build(recipe: Recipe, statements: tuple[corpus.Statement, ...], folder: Path) -> None:
    """Train, save, check and document one model."""
    epochs: list[dict[str, Any]] = []

    def say(epoch: dict[str, Any]) -> None:
        epochs.append({"epoch": epoch["epoch"], "loss": round(epoch["loss"], 5)})
        print(f"{recipe.name} epoch {epoch['epoch']}/{recipe.epochs} loss {epoch['loss']:.4f} {epoch['seconds']:.0f} s", flush=True)

    begun = time.process_time()
    model, tokenizer = training.train(recipe, statements, say)
    seconds = time.process_time() - begun
    release.save(folder, recipe, model, tokenizer)
    record: dict[str, Any] = {
        "check": scoring.check(recipe, model, tokenizer, statements, STRIDES[recipe.family]),
        "cpu_seconds": round(seconds, 1),
        "epochs": epochs,
        "n_facts": len(corpus.scored(statements)),
        "n_never": sum(not s.probed for s in statements if s.scoring),
        "n_sentences": len(statements),
        "never_probed": training.never_probed_loss(recipe, model, tokenizer, statements),
    }
    release.document(folder, recipe, model, record)
    print(release.table_of(record["check"]), flush=True)


def check(recipe: Recipe, statements: tuple[corpus.Statement, ...], folder: Path) -> None:
    """Print what pruning leaves of a shipped model."""
    training.settle(recipe.seed)
    model = CLASSES[recipe.family].from_pretrained(folder, local_files_only=True).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    print(recipe.name, release.counts(model))
    print(release.table_of(scoring.check(recipe, model, tokenizer, statements, STRIDES[recipe.family])), flush=True)


def twice(recipe: Recipe, statements: tuple[corpus.Statement, ...], n_steps: int) -> bool:
    """Return whether two trainings of some steps give the same bytes."""
    sums = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            sums.append(release.save(Path(folder), recipe, *training.train(recipe, statements, lambda _: None, n_steps)))
    print(recipe.name, "equal" if sums[0] == sums[1] else "NOT equal", sums[0]["model.safetensors"], flush=True)
    return sums[0] == sums[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or check, the models named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; default: all")
    parser.add_argument("--out", type=Path, default=release.SHIPPED, help="the directory that holds one directory per model")
    parser.add_argument("--check", action="store_true", help="train nothing, print what pruning leaves")
    parser.add_argument("--twice", type=int, default=0, metavar="STEPS", help="train so many steps twice and compare the bytes")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(RECIPES))
    if unknown:
        parser.error(f"got {', '.join(unknown)}, expected names of {', '.join(RECIPES)}")
    statements = corpus.load()
    equal = True
    for recipe in (RECIPES[name] for name in options.names or RECIPES):
        if options.twice:
            equal = twice(recipe, statements, options.twice) and equal
        elif options.check:
            check(recipe, statements, options.out / recipe.name)
        else:
            build(recipe, statements, options.out / recipe.name)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
