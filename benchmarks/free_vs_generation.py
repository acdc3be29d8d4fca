"""Check free P@1 against what the model writes: greedy generation on a sample of facts.

A generated answer counts where the text begins with an accepted spelling that ends at a word boundary. The two can differ where the
model spells an answer in other tokens than its tokenizer does; this prints how often.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from pytest_kick.facts import shipped_facts
from pytest_kick.models.load import load
from pytest_kick.probes.facts import FactsProbe
from pytest_kick.spec import ModelSpec


def is_written(text: str, names: tuple[str, ...]) -> bool:
    """Return whether a text begins with one of the names, as a whole word."""
    text = text.removeprefix(" ")
    return any(text.startswith(name) and not (text[len(name) : len(name) + 1].isalnum() or text[len(name) :][:1] == "-") for name in names)


def main() -> None:
    """Print the counts of agreement and each disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="directory of a decoder, as `kick fetch` prints it")
    parser.add_argument("--facts", type=int, default=100)
    args = parser.parse_args()
    model = load(ModelSpec(name="benchmarked", family="decoder", source=f"path:{args.model.resolve()}"), args.model)
    model.cast_(torch.float32)
    facts = shipped_facts()
    score = FactsProbe(facts).run(model, limit=args.facts)
    by_id = {fact.id: fact for fact in facts.facts}
    counts = {(a, b): 0 for a in (False, True) for b in (False, True)}
    for identifier, free in zip(score.examples.ids, score.examples.outcome("free_p1"), strict=True):
        fact = by_id[str(identifier)]
        ids = torch.tensor([model.prompt_ids(facts.relations[fact.relation].prompt(fact.subject)[0])])
        with torch.inference_mode():
            out = model.module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)  # type: ignore[operator]
        text = str(model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
        written = is_written(text, (fact.answer, *fact.aliases))
        counts[bool(free), written] += 1
        if bool(free) != written:
            print(f"{identifier}: free_p1 {bool(free)}, answer {fact.answer!r}, written {text!r}")
    print({f"free_p1={a} written={b}": count for (a, b), count in counts.items()})


if __name__ == "__main__":
    main()
