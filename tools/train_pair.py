"""Train the models of the suite `size`: a small decoder and one of twice its body, several seeds each.

Usage, from the root of the repository:
    python -m tools.train_pair                    train all that are missing, into .kick/size
    python -m tools.train_pair size-large-0       train one

The small one is the recipe of `tiny-decoder` (seed 0 is the shipped model itself and is not trained again), the large one has twice the
blocks: same facts, tokenizer, steps and learning rates. Two to six minutes of processor time each, on one thread. They are not shipped.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.tiny import corpus, release, training
from tools.tiny.recipes import RECIPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tools.tiny.recipes import Recipe

OUT = corpus.ROOT / ".kick" / "size"
SEEDS = (0, 1, 2)
SMALL = RECIPES["tiny-decoder"]
SHIPPED = "size-small-0"


def pair() -> dict[str, Recipe]:
    """Return the recipes by name, the shipped one left out."""
    sizes = (("small", SMALL.n_layers), ("large", 2 * SMALL.n_layers))
    made = [replace(SMALL, name=f"size-{size}-{seed}", n_layers=n_layers, seed=seed) for seed in SEEDS for size, n_layers in sizes]
    return {recipe.name: recipe for recipe in made if recipe.name != SHIPPED}


def build(recipe: Recipe, folder: Path) -> None:
    """Train and save one model."""
    statements = corpus.load()

    def say(epoch: dict[str, Any]) -> None:
        where = f"{recipe.name} epoch {epoch['epoch']}/{recipe.epochs}"
        print(f"{where} loss {epoch['loss']:.4f} {epoch['seconds']:.0f} s", flush=True)

    model, tokenizer = training.train(recipe, statements, say)
    release.save(folder, recipe, model, tokenizer)
    print(recipe.name, release.counts(model), flush=True)


def missing(recipes: Iterable[str], out: Path) -> list[str]:
    """Return the names of the models that are not there in full: the sums are what `release.save` writes last."""
    return [name for name in recipes if not (out / name / "SHA256SUMS").is_file()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the models named, or those that are missing."""
    recipes = pair()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(recipes)}; default: those that are missing")
    parser.add_argument("--out", type=Path, default=OUT, help="the directory that holds one directory per model")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(recipes))
    if unknown:
        parser.error(f"got {', '.join(unknown)}, expected names of {', '.join(recipes)}")
    for name in options.names or missing(recipes, options.out):
        build(recipes[name], options.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
