"""Facts asked twice, as they are and with text before them, by the machinery of the probe `facts`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.calibration.prepare import max_length
from pytest_kick.errors import ProbeError
from pytest_kick.models.quiet import quiet
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.prepare import Prepared, prepare
from pytest_kick.probes.prompted_draw import Lead
from pytest_kick.probes.prompted_tree import SharedTreeForward
from pytest_kick.probes.scoring import Scorer
from pytest_kick.probes.summary import trivial_scores
from pytest_kick.probes.tree import TreeForward
from pytest_kick.probes.ways import forward_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.facts import Fact, FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.forward import Forward, Work
    from pytest_kick.probes.trie import Ints

BATCH_SIZE = 256
BATCH_TOKENS = 4096  # of the prompts whose key-value caches are held at a time
LONG = "text longer than the model's positions"
SPELLED = "answer spelled differently after this text"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Twice:
    """Hold n facts that a model can be asked both ways.

    Attributes:
        facts: the facts.
        leads: the text before each, where it has one.
        bare: them and others without text before them.
        bare_at: `(n,)` their numbers in `bare`.
        led: them and others with it.
        led_at: `(n,)` their numbers in `led`.
        excluded: reason -> facts asked for that are not among them.
        trivial: `chance` and `majority` over the n facts.
    """

    facts: tuple[Fact, ...]
    leads: tuple[Lead, ...]
    bare: Prepared
    bare_at: Ints
    led: Prepared
    led_at: Ints
    excluded: dict[str, int]
    trivial: dict[str, float]

    def answers(self) -> tuple[tuple[str, ...], ...]:
        """Return what each fact's text before it gives away."""
        return tuple(lead.answers for lead in self.leads)


def asked_twice(where: str, everything: FactSet, asked: FactSet, leads: Sequence[Lead | str], model: LoadedModel) -> Twice:
    """Prepare facts to be asked without and with text before them.

    Args:
        where: opens every error, such as `probe open_book`.
        everything: all facts: which answers are common is counted over them, so that a small sample does not flatter.
        asked: those to ask.
        leads: of each of `asked`; a reason instead where a fact has none.
        model: whose tokenizer, family and positions decide what can be asked.

    Raises:
        ProbeError: not one fact can be asked both ways.
    """
    able = [number for number, lead in enumerate(leads) if isinstance(lead, Lead)]
    excluded = Counter(reason for reason in leads if isinstance(reason, str))
    given = [lead for lead in leads if isinstance(lead, Lead)]
    if not able:
        raise _none(where, model, excluded)
    subset = replace(asked, facts=tuple(asked.facts[number] for number in able))
    with quiet():  # tokenizers log that a text is longer than their model takes; such ones are counted below
        bare, led = prepare(subset, model), prepare(subset, model, [lead.text for lead in given])
    both = np.intersect1d(bare.chosen, led.chosen)
    led_at = np.searchsorted(led.chosen, both)
    fits = _lengths(led)[led_at] <= max_length(model)
    excluded.update(bare.excluded)
    excluded.update({SPELLED: len(bare) - len(both), LONG: int((~fits).sum())})
    kept = both[fits]
    if not len(kept):
        raise _none(where, model, excluded)
    facts = tuple(subset.facts[number] for number in kept)
    return Twice(
        facts=facts,
        leads=tuple(given[number] for number in kept),
        bare=_unspelled(bare),
        bare_at=np.searchsorted(bare.chosen, kept),
        led=_unspelled(led),
        led_at=led_at[fits],
        excluded={reason: count for reason, count in sorted(excluded.items()) if count},
        trivial=_trivial(everything, facts, model),
    )


def answered(
    model: LoadedModel,
    prepared: Prepared,
    facts: Ints,
    where: str,
    *,
    together: Sequence[object] = (),
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, Array], Work]:
    """Rank the answers of facts.

    Args:
        model: as it is now, cast to the dtype and device of the forward pass.
        prepared: the facts.
        facts: `(n,)` their numbers.
        where: opens every error.
        together: what the text before each fact is known by, where many have the same: a decoder reads that one once per batch.
        batch_size: facts per pass over prompts at most; fewer where prompts are long.
        progress: called with the number of facts done.

    Returns:
        `p1`, `margin`, `predicted` and more of `scoring.Scorer`, and what was run.

    Raises:
        ProbeError: a logit is NaN or infinite.
    """
    forward: Forward = forward_for(model, ScoredHead(model), prepared)
    if together and type(forward) is TreeForward:
        forward = SharedTreeForward(forward.model, forward.head, prepared)
    scorer = Scorer(forward, prepared, f"{where}: model {model.name!r}")
    longest = max(len(prepared.prompts[fact]) for fact in facts)
    batch = max(1, min(batch_size or BATCH_SIZE, BATCH_TOKENS // longest))
    places = _groups(together, len(facts)) if isinstance(forward, SharedTreeForward) else [np.arange(len(facts))]
    parts, done = [], 0
    for group in places:
        tell = None if progress is None else lambda now, before=done: progress(before + now)
        parts.append(scorer.score(facts[group], batch, tell))
        done += len(group)
    back = np.argsort(np.concatenate(places), kind="stable")
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}, forward.work


def work_of(works: Sequence[Work], n_facts: int) -> dict[str, float]:
    """Return what passes over `n_facts` facts cost, for a score."""
    summed = {name: float(sum(getattr(work, name) for work in works)) for name in ("tokens", "padding", "scored", "passes", "candidates")}
    summed["scored_positions"] = summed.pop("scored")
    return summed | {"candidates_per_example": summed.pop("candidates") / n_facts}


def _groups(keys: Sequence[object], n: int) -> list[Ints]:
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    labels = np.asarray([numbers[key] for key in keys], np.int64)
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if n else []


def _lengths(prepared: Prepared) -> Ints:
    """Return `(n,)` the positions that a prompt takes with its longest candidate, where that stands behind the prompt."""
    lengths = np.asarray([len(prompt) for prompt in prepared.prompts], np.int64)
    if prepared.convention in {"mask", "sentinel"}:
        return lengths
    tokens = (prepared.trie.paths[prepared.candidates] < len(prepared.trie)).sum(2)
    return np.asarray(lengths + np.where(prepared.candidates >= 0, tokens, 0).max(1)[prepared.space])


def _unspelled(prepared: Prepared) -> Prepared:
    """Return the facts to be ranked alone: no spelling is looked for in what a model would write freely."""
    return replace(prepared, spellings=np.full((len(prepared), 1), -1, np.int64), continues=np.zeros(0, np.bool_))


def _trivial(everything: FactSet, facts: Sequence[Fact], model: LoadedModel) -> dict[str, float]:
    whole = prepare(everything, model)
    places = {everything.facts[number].id: place for place, number in enumerate(whole.chosen)}
    return trivial_scores(whole, np.asarray([places[fact.id] for fact in facts if fact.id in places], np.int64))["p1"]


def _none(where: str, model: LoadedModel, excluded: Counter[str]) -> ProbeError:
    why = ", ".join(f"{reason}: {count}" for reason, count in sorted(excluded.items()) if count)
    return ProbeError(f"{where}: model {model.name!r}: got no fact that can be asked ({why}), expected some. Ask with less text before it.")
