"""The probe `lama`: which word does the model put into the blank of a fact?

Scored as LAMA's own code does: one token at one blank, ranked within the vocabulary common to the models that LAMA compared. With
`a_compat` as the first of the two studies did: over all masks, within the whole vocabulary. See `docs/probes.md`.
Source: Petroni et al. 2019, arXiv 1909.01066; Namburi et al. 2023, arXiv 2312.00960.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.data_sets.lama import DATASETS, Clozes, check_licence, common_vocabulary, load_lama, load_own
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError, ProbeError
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.lama_cloze import BATCH_SIZE, CUTS, Blanks, ClozeRanker, prepare_clozes
from pytest_kick.probes.lama_statements import LamaStatements
from pytest_kick.probes.summary import macro

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.trie import Ints
    from pytest_kick.result import ProbeScore

_PATH = "path:"


class LamaProbe:
    """Rank the gold token at the blank of each fact.

    Attributes:
        name: `lama`.
        version: of the scoring.
    """

    name: ClassVar[str] = "lama"
    version: ClassVar[int] = 1

    def __init__(self, context: ProbeContext, clozes: Clozes, words: Sequence[str]) -> None:
        """Take the facts, and the words that are ranked, none for the whole vocabulary of a model."""
        self._spec, self._clozes, self._words = context.spec, clozes, tuple(words)
        self._compat = bool(context.spec.param("a_compat"))
        self._prepared: dict[tuple[str, str], Blanks] = {}
        ranked = content_hash(sorted(words))
        self._hashes = [content_hash(fact.sentence, fact.answer, ranked) for fact in clozes.facts]

    @property
    def clozes(self) -> Clozes:
        """Return the facts."""
        return self._clozes

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words that are ranked, none for the whole vocabulary of a model."""
        return self._words

    def run(
        self,
        model: LoadedModel,
        *,
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProbeScore:
        """Score a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            limit: number of facts, a sample stratified by relation; None for all.
            seed: of that sample.
            batch_size: facts per pass; None for 256.
            progress: called with the numbers of facts done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or the model cannot be asked at all.
        """
        blanks = self._prepare(model)
        asked = [self._clozes.facts[number] for number in blanks.chosen]
        chosen = sampled([fact.id for fact in asked], [fact.relation for fact in asked], limit, seed)
        ranker = ClozeRanker(model, blanks)
        arrays = ranker.rank(chosen, batch_size or BATCH_SIZE, progress)
        ranks = arrays.pop("rank")
        arrays["reciprocal_rank"] = (1.0 / ranks).astype(np.float32)
        if not self._compat:
            arrays = {name: values for name, values in arrays.items() if not name.startswith("position")}
        place = _commonness([fact.relation for fact in asked], [fact.answer for fact in asked])[chosen]
        facts = [asked[number] for number in chosen]
        groups = np.asarray([fact.relation for fact in facts])
        among = len(blanks.among) or int(model.module.config.get_text_config().vocab_size)
        floors, trivial = _floors(place, groups, among, arrays.get("positions"))
        score = assembled(
            self._spec,
            version=self.version,
            ids=[fact.id for fact in facts],
            groups=groups.tolist(),
            hashes=[self._hashes[number] for number in blanks.chosen[chosen]],
            arrays=arrays,
            floors=floors,
            trivial=trivial,
            excluded={**self._clozes.dropped, **blanks.excluded},
            settings=self._settings(blanks),
            work={"tokens": float(ranker.tokens), "passes": float(ranker.passes), "ranked_words": float(among)},
        )
        return with_types(score, self._clozes.types)

    def _settings(self, blanks: Blanks) -> dict[str, str]:
        return {
            "answer": {"mask": "at the mask", "sentinel": "at the sentinel"}.get(blanks.convention, "next token"),
            "ranked": "common vocabulary" if self._words else "whole vocabulary",
            "prompt": blanks.convention,
        }

    def _prepare(self, model: LoadedModel) -> Blanks:
        if self._compat and model.family != "encoder":
            msg = (
                f"probe {self._spec.id}: model {model.name!r}: a_compat: got true for a model of family {model.family},"
                " expected an encoder: the study asked no other. Leave it out."
            )
            raise ProbeError(msg)
        key = (model.tokenizer_hash, model.family)
        if key not in self._prepared:
            self._prepared[key] = prepare_clozes(self._clozes.facts, self._words, model, every_mask=self._compat)
        return self._prepared[key]


def make(context: ProbeContext) -> LamaProbe | LamaStatements:
    """Make the probe for a data set of LAMA, or for facts of one's own.

    Raises:
        DataError: the data are not there, are malformed, or their licence was not acknowledged.
    """
    spec = context.spec
    where, dataset, compat = f"probe {spec.id}", spec.named("dataset"), bool(spec.param("a_compat"))
    whole = compat or spec.param("vocabulary") == "whole"
    source = DataSource(directory=context.data, offline=context.offline)
    statements = spec.param("scoring") == "statement"
    if compat and statements:
        msg = f"{where}: scoring: got 'statement' with a_compat, expected 'token'. Leave one of the two out."
        raise DataError(msg)
    if not dataset.startswith(_PATH) or not whole:
        check_licence(where, str(spec.param("licence")), "LAMA" if not dataset.startswith(_PATH) else "LAMA's common vocabulary")
    if dataset.startswith(_PATH):
        clozes = load_own(Path(dataset.removeprefix(_PATH)), sentences=compat)
    elif dataset in DATASETS:
        clozes = load_lama(source, dataset, sentences=compat)
    else:
        msg = f"{where}: dataset: got {dataset!r}, expected one of {', '.join(DATASETS)}, or path:FILE. Correct it."
        raise DataError(msg)
    words = () if whole else _words(where, source)
    return LamaStatements(context, clozes, words) if statements else LamaProbe(context, clozes, words)


def _words(where: str, source: DataSource) -> tuple[str, ...]:
    if source.directory is None:
        msg = (
            f"{where}: vocabulary: got 'common' without a directory of data, expected lama_vocab/common_vocab_cased.txt."
            ' Give --kick-data DIR, or write `vocabulary = "whole"`.'
        )
        raise DataError(msg)
    return common_vocabulary(source)


def with_types(score: ProbeScore, types: Mapping[str, str]) -> ProbeScore:
    """Return a score with the mean over the relations of each type besides, as LAMA prints them."""
    groups, right = score.examples.groups, score.examples.arrays["p1"]
    kinds = np.asarray([types.get(str(group), "") for group in groups])
    more = {f"macro_p1_{kind}": macro(right[kinds == kind], groups[kinds == kind]) for kind in sorted(set(kinds.tolist())) if kind}
    return replace(score, metrics={**score.metrics, **more})


def _commonness(relations: Sequence[str], answers: Sequence[str]) -> Ints:
    """Return `(n,)` the place of each fact's answer among those of its relation, from 0, commonest first."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for relation, answer in zip(relations, answers, strict=True):
        counts[relation][answer] += 1
    places = {
        relation: {answer: place for place, (answer, _) in enumerate(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))}
        for relation, counted in counts.items()
    }
    return np.asarray([places[relation][answer] for relation, answer in zip(relations, answers, strict=True)], np.int64)


def _floors(place: Ints, groups: Array, among: int, positions: Array | None) -> tuple[dict[str, float], dict[str, float]]:
    """Return what chance or the commonest answers of each relation score, by metric, and both for `p1`."""
    found = {f"p{cut}": max(cut / among, float(np.mean(place < cut))) for cut in CUTS}
    found |= {f"macro_p{cut}": max(cut / among, macro(place < cut, groups)) for cut in (1, 10)}
    _, inverse = np.unique(groups, return_inverse=True)
    found["mrr"] = float(np.mean(np.bincount(inverse, 1.0 / (place + 1)) / np.bincount(inverse)))
    if positions is not None:
        found |= {f"position_p{cut}": float(np.average(place < cut, weights=positions)) for cut in (1, 5)}
    return found, {"chance": 1 / among, "majority": float(np.mean(place < 1))}
