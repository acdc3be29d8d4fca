"""What a model answers to a sample of facts under several templates, and how far the answers agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.probes.ranking import CUTS
from pytest_kick.probes.summary import macro
from pytest_kick.probes.templates import KEPT, Asked, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.examples import Array
    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.trie import Ints

    Bools = NDArray[np.bool_]

NOT_ASKED = -2
NO_ANSWER = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """Hold what was answered to n facts under T templates.

    Attributes:
        numbers: `(n,)` of the facts, in their data set.
        predicted: `(T, n)` number of the answer in the relation's answer space; -1 where equal logits name none, -2 where not asked.
        right: `(T, n)` whether the answer is gold, strictly better than all others.
        scoring: arrays of length n, `templates.KEPT`, of each fact's scoring template.
        sizes: `(n,)` answers that are ranked, under the scoring template.
        place: `(n,)` of the gold answer among those of its relation, commonest first, from 0.
        excluded: reason -> facts left out.
        work: what was run.
    """

    numbers: Ints
    predicted: Ints
    right: Bools
    scoring: dict[str, Array]
    sizes: Ints
    place: Ints
    excluded: dict[str, int]
    work: dict[str, float]


class TemplateAsker:
    """Ask facts under several templates; what depends on the tokenizer and the sample alone is prepared once and kept."""

    def __init__(self, where: str, facts: FactSet, templates: Sequence[int], *, statements: bool, least: int) -> None:
        """Take what is asked.

        Args:
            where: opens errors.
            facts: a data set, each relation with the scoring template that decides right or wrong.
            templates: numbers of the templates to ask, the scoring ones among them.
            statements: see `templates.ask`.
            least: templates that a fact has to be asked under.
        """
        self._where, self._facts, self._templates = where, facts, tuple(templates)
        self._statements, self._least = statements, least
        self._asked: dict[tuple[str, str, bytes], dict[int, Asked]] = {}

    def answers(
        self, model: LoadedModel, chosen: Ints, batch_size: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Answered:
        """Return what a model answers, as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            chosen: `(m,)` numbers of the facts to ask, ascending.
            batch_size: facts, or sequences, per pass.
            progress: called with the numbers of templates done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or not one of the facts can be asked.
        """
        asked = self._prepare(model, chosen)
        at = {int(number): column for column, number in enumerate(chosen)}
        predicted = np.full((len(self._templates), len(chosen)), NOT_ASKED, np.int64)
        right = np.zeros(predicted.shape, np.bool_)
        scoring: dict[str, Array] = {}
        sizes, place = np.ones(len(chosen), np.int64), np.zeros(len(chosen), np.int64)
        own = np.asarray([self._facts.relations[self._facts.facts[number].relation].scoring for number in chosen])
        work: Counter[str] = Counter()
        for row, template in enumerate(self._templates):
            for part in asked[template].parts:
                columns = np.asarray([at[int(number)] for number in part.numbers])
                found, ran = part.rank(model, self._where, batch_size)
                work.update(ran)
                predicted[row, columns], right[row, columns] = found["predicted"], found["p1"]
                here = own[columns] == template
                for name in KEPT:
                    scoring.setdefault(name, np.zeros(len(chosen), found[name].dtype))[columns[here]] = found[name][here]
                sizes[columns[here]], place[columns[here]] = self._commonness(part.numbers[here], part.answers)
            if progress:
                progress(row + 1, len(self._templates))
        kept, excluded = self._kept(model, chosen, predicted, own, asked)
        return Answered(
            numbers=chosen[kept],
            predicted=predicted[:, kept],
            right=right[:, kept],
            scoring={name: values[kept] for name, values in scoring.items()},
            sizes=sizes[kept],
            place=place[kept],
            excluded=excluded,
            work=dict(work),
        )

    def _prepare(self, model: LoadedModel, chosen: Ints) -> dict[int, Asked]:
        key = (model.tokenizer_hash, model.family, chosen.tobytes())
        if key not in self._asked:
            self._asked[key] = {t: ask(self._facts, chosen, t, model, statements=self._statements) for t in self._templates}
        return self._asked[key]

    def _kept(
        self, model: LoadedModel, chosen: Ints, predicted: Ints, own: Ints, asked: Mapping[int, Asked]
    ) -> tuple[Ints, dict[str, int]]:
        """Return the columns of facts asked under their scoring template and enough others, and why the rest is left out."""
        rows = np.asarray([self._templates.index(template) for template in own])
        scored = predicted[rows, np.arange(len(rows))] != NOT_ASKED
        enough = (predicted != NOT_ASKED).sum(0) >= self._least
        why = [asked[int(own[column])].excluded[int(chosen[column])] for column in np.flatnonzero(~scored)]
        excluded = dict(sorted(Counter([*why, *["asked under too few templates"] * int((scored & ~enough).sum())]).items()))
        kept = np.flatnonzero(scored & enough)
        if not len(kept):
            msg = f"{self._where}: model {model.name!r}: facts: got none that can be asked ({excluded}), expected one. Raise the limit."
            raise ProbeError(msg)
        return kept, excluded

    def _commonness(self, numbers: Ints, answers: Mapping[str, Sequence[int]]) -> tuple[Ints, Ints]:
        """Return `(n,)` how many answers are ranked, and the place of gold among them; counted over all facts of the data set."""
        places: dict[str, dict[str, int]] = {}
        for relation, able in answers.items():
            labels = [self._facts.relations[relation].answers[number] for number in able]
            counts = Counter(fact.answer for fact in self._facts.facts if fact.relation == relation)
            places[relation] = {label: place for place, label in enumerate(sorted(labels, key=lambda label: -counts[label]))}
        asked = [self._facts.facts[number] for number in numbers]
        sizes = [len(answers[fact.relation]) for fact in asked]
        return np.asarray(sizes, np.int64), np.asarray([places[fact.relation][fact.answer] for fact in asked], np.int64)


def agreement(answered: Answered, groups: Array) -> dict[str, Array]:
    """Return how far each fact's answers agree, arrays of length n.

    Args:
        answered: under at least two templates each.
        groups: `(n,)` relation of each fact.

    Returns:
        `agrees`: all answers are the same one; `consistent_p1`: and it is right under every template; `consistency`: share of the
        pairs of templates with the same answer; `specific_consistency`: that, less how often the other template gives this answer to
        the other facts of the relation, so that a model that always says the same is at 0; `accuracy`: share of the templates that
        are right.
    """
    asked = answered.predicted != NOT_ASKED
    named = answered.predicted > NO_ANSWER
    n = asked.sum(0)
    _, relation = np.unique(groups, return_inverse=True)
    same, specific = np.zeros(asked.shape[1]), np.zeros(asked.shape[1])
    for one in range(len(asked)):
        for other in range(len(asked)):
            if one == other:
                continue
            both = asked[one] & asked[other]
            equal = both & named[one] & (answered.predicted[one] == answered.predicted[other])
            same += equal
            beyond = equal - _share(answered, relation, other, answered.predicted[one])
            specific += np.where(both & named[one] & np.isfinite(beyond), beyond, 0.0)
    pairs = n * (n - 1)
    right = (answered.right | ~asked).all(0)
    return {
        "agrees": same == pairs,
        "consistent_p1": right,
        "consistency": (same / pairs).astype(np.float32),
        "specific_consistency": (specific / pairs).astype(np.float32),
        "accuracy": (answered.right.sum(0) / n).astype(np.float32),
    }


def _share(answered: Answered, relation: Ints, template: int, answers: Ints) -> NDArray[np.float64]:
    """Return `(n,)` how large a share of the other facts of its relation gets each fact's answer of `answers` under a template.

    NaN where there is no other: one fact alone cannot tell its own answer from what is always said.
    """
    given = answered.predicted[template]
    asked = given != NOT_ASKED
    width = int(max(given.max(), answers.max(), 0)) + 1
    counts = np.bincount((relation * width + given)[asked & (given >= 0)], minlength=(int(relation.max()) + 1) * width)
    totals = np.bincount(relation[asked], minlength=int(relation.max()) + 1)
    others = totals[relation] - asked
    same = counts[relation * width + np.maximum(answers, 0)] - (asked & (given == answers))
    return np.where(others > 0, same / np.maximum(others, 1), np.nan)


def floors_of(answered: Answered, groups: Array) -> tuple[dict[str, float], dict[str, float]]:
    """Return what knows nothing and scores best, by metric: chance or the relation's commonest answers; and both for `p1`."""
    chance = {cut: np.minimum(cut / answered.sizes, 1.0) for cut in CUTS}
    majority = {cut: answered.place < cut for cut in CUTS}
    floors = {f"p{cut}": max(float(chance[cut].mean()), float(majority[cut].mean())) for cut in CUTS}
    _, inverse = np.unique(groups, return_inverse=True)
    spread = float(np.mean(np.bincount(inverse, chance[1]) / np.bincount(inverse)))
    floors["macro_p1"] = max(spread, macro(majority[1], np.asarray(groups)))
    trivial = {"chance": float(chance[1].mean()), "majority": float(majority[1].mean())}
    return floors, trivial
