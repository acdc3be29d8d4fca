"""Whose examples are compared: facts, multiple-choice questions, statements or clozes, as the probe that asks them has them.

Each source draws the same sample for every run and turns it, for a tokenizer, into examples and the ways to read them. The sample is
drawn before the tokenizer is asked, so that all models are compared on the same examples as far as they can express them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.facts import fact_hash
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.choice import askable, encode, statements
from pytest_kick.probes.divergence_measures import TOP
from pytest_kick.probes.divergence_read import BlankReader, PairReader, TextReader
from pytest_kick.probes.lama import LamaProbe
from pytest_kick.probes.lama_cloze import prepare_clozes
from pytest_kick.probes.prepare import Prepared, prepare
from pytest_kick.probes.statements import pairs_of
from pytest_kick.probes.templates import PromptPart, StatementPart, ask
from pytest_kick.probes.tokens import asker_for
from pytest_kick.probes.trie import TrieBuilder
from pytest_kick.registry import PROBES, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.choice import Question
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.divergence_read import Reader
    from pytest_kick.probes.lama_cloze import Blanks
    from pytest_kick.probes.templates import Part
    from pytest_kick.probes.trie import Ints

SAMPLE_SEED = 0
"""Of the examples compared: the same for every run, so that `--kick-limit` can only take some of them away."""
FIRST, WHOLE = "distinct first tokens", "whole answers, sum"
UNASKED = "an option without tokens of its own"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """Hold n examples that a tokenizer can express.

    Attributes:
        ids: of the examples.
        groups: relation or subject of each.
        hashes: `content_hash` of each.
        excluded: reason -> examples of the sample that are left out.
        settings: what fixes the comparison besides the examples.
        parts: places of examples `(m,)`, together all of them, and what reads these.
        own: each example has its own options, which the readers return.
        among: `(C,)` else the ids of the tokens that are the options of all examples, none where the whole vocabulary is.
        whole: an option is a whole answer: the likeliest one is what the model would choose.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    hashes: Sequence[int]
    excluded: Mapping[str, int]
    settings: Mapping[str, str | int | float | bool]
    parts: tuple[tuple[Ints, Reader], ...]
    own: bool
    among: Ints
    whole: bool


def none_among() -> Ints:
    """Return no tokens."""
    return np.zeros(0, np.int64)


class FactsSource:
    """Compare at the answers of facts, as the probe `facts` asks for them."""

    def __init__(self, context: ProbeContext) -> None:
        """Draw the sample of the suite's facts."""
        self._facts = context.fact_set().sample(int(context.spec.param("sample")), SAMPLE_SEED)
        self._whole = context.spec.param("options") == "whole"

    @property
    def key(self) -> str:
        """Return a digest of the examples."""
        return _digest(f"{fact.id} {number}" for fact, number in zip(self._facts.facts, self._facts.hashes(), strict=True))

    def asked(self, model: LoadedModel, limit: int | None, seed: int) -> Asked:
        """Return the sample, or `limit` examples of it, for the tokenizer of a model."""
        facts = self._facts if limit is None or limit >= len(self._facts.facts) else self._facts.sample(limit, seed)
        prepared = prepare(facts, model)
        chosen = [facts.facts[number] for number in prepared.chosen]
        hashes = facts.hashes()
        everything = np.arange(len(prepared))
        return Asked(
            ids=[fact.id for fact in chosen],
            groups=[fact.relation for fact in chosen],
            hashes=[content_hash(hashes[number], TOP, self._whole) for number in prepared.chosen],
            excluded=prepared.excluded,
            settings={"template": "scoring", "top": TOP, "prompt": prepared.convention, "options": WHOLE if self._whole else FIRST},
            parts=((everything, BlankReader(prepared=prepared, facts=everything, whole=self._whole)),),
            own=True,
            among=none_among(),
            whole=self._whole,
        )


class _Drawn:
    """Draw a sample of examples with ids and groups."""

    def __init__(self, context: ProbeContext, ids: Sequence[str], groups: Sequence[str], hashes: Sequence[int]) -> None:
        self._ids, self._groups, self._hashes = ids, groups, hashes
        self._sample = sampled(ids, groups, int(context.spec.param("sample")), SAMPLE_SEED)
        self._where = f"probe {context.spec.id}"

    @property
    def key(self) -> str:
        """Return a digest of the examples."""
        return _digest(f"{self._ids[number]} {self._hashes[number]}" for number in self._sample)

    def _chosen(self, limit: int | None, seed: int) -> Ints:
        """Return the numbers of the sample, or of `limit` examples of it."""
        drawn = [(self._ids[number], self._groups[number]) for number in self._sample]
        return self._sample[sampled([name for name, _ in drawn], [group for _, group in drawn], limit, seed)]

    def _made(
        self,
        model: LoadedModel,
        kept: Sequence[int],
        excluded: Mapping[str, int],
        settings: Mapping[str, str | int],
        parts: tuple[tuple[Ints, Reader], ...],
        among: Ints | None = None,
    ) -> Asked:
        """Return examples by their numbers; `among` where words are the options of all, none of them for the whole vocabulary."""
        if not len(kept):
            msg = f"{self._where}: model {model.name!r}: examples: got none that can be asked ({dict(excluded)}), expected one."
            msg += " Raise the limit, or compare others."
            raise ProbeError(msg)
        return Asked(
            ids=[self._ids[number] for number in kept],
            groups=[self._groups[number] for number in kept],
            hashes=[content_hash(self._hashes[number], TOP) for number in kept],
            excluded=dict(excluded),
            settings={"top": TOP, **settings},
            parts=parts,
            own=among is None,
            among=none_among() if among is None else among,
            whole=among is None or len(among) > 0,
        )


class QuestionsSource(_Drawn):
    """Compare at multiple-choice questions: the next token after the prompt, and the sums of the options."""

    def __init__(self, context: ProbeContext, questions: Sequence[Question]) -> None:
        """Draw the sample."""
        hashes = [content_hash(question.prompt, question.options) for question in questions]
        super().__init__(context, [q.id for q in questions], [q.group for q in questions], hashes)
        self._questions = questions

    def asked(self, model: LoadedModel, limit: int | None, seed: int) -> Asked:
        """Return the sample, or `limit` examples of it, for the tokenizer of a model."""
        chosen = self._chosen(limit, seed)
        pairs = encode(model, [self._questions[number] for number in chosen])
        able = askable(model, pairs)
        kept = chosen[able]
        reader: Reader = PairReader(pairs=tuple(options for options, fits in zip(pairs, able, strict=True) if fits))
        if model.family == "encoder":
            texts, spans = zip(*(statements([self._questions[number]]) for number in kept), strict=True) if len(kept) else ((), ())
            reader = TextReader(texts=tuple(map(tuple, texts)), spans=tuple(map(tuple, spans)))
        excluded = {} if able.all() else {UNASKED: int((~able).sum())}
        return self._made(model, kept.tolist(), excluded, {"options": WHOLE}, ((np.arange(len(kept)), reader),))


class StatementsSource(_Drawn):
    """Compare at the answers of statements, as `bear` asks for them: the sums of whole answers, and what comes before these differ."""

    def __init__(self, context: ProbeContext, facts: FactSet) -> None:
        """Draw the sample."""
        hashes = [fact_hash(facts.relations[fact.relation], replace(fact, aliases=())) for fact in facts.facts]
        super().__init__(context, [fact.id for fact in facts.facts], [fact.relation for fact in facts.facts], hashes)
        self._facts = facts

    def asked(self, model: LoadedModel, limit: int | None, seed: int) -> Asked:
        """Return the sample, or `limit` examples of it, for the tokenizer of a model."""
        chosen = self._chosen(limit, seed)
        template = next(iter(self._facts.relations.values())).scoring
        found = ask(self._facts, chosen, template, model, statements=True)
        kept = np.sort(np.concatenate([part.numbers for part in found.parts])) if found.parts else none_among()
        parts = tuple((np.searchsorted(kept, part.numbers), _reader(model, part)) for part in found.parts)
        excluded = dict(sorted(Counter(found.excluded.values()).items()))
        settings: dict[str, str | int] = {"options": WHOLE, "template": template, "prompt": asker_for(model).convention}
        return self._made(model, kept.tolist(), excluded, settings, parts)


class ClozesSource(_Drawn):
    """Compare at the blank of clozes, as `lama` asks: among the words it ranks."""

    def __init__(self, context: ProbeContext, probe: LamaProbe) -> None:
        """Draw the sample."""
        ranked = content_hash(sorted(probe.words))
        self._clozes, self._words = probe.clozes, probe.words
        facts = self._clozes.facts
        hashes = [content_hash(fact.sentence, ranked) for fact in facts]
        super().__init__(context, [fact.id for fact in facts], [fact.relation for fact in facts], hashes)

    def asked(self, model: LoadedModel, limit: int | None, seed: int) -> Asked:
        """Return the sample, or `limit` examples of it, for the tokenizer of a model."""
        chosen = self._chosen(limit, seed)
        blanks = prepare_clozes([self._clozes.facts[number] for number in chosen], self._words, model)
        ranked = "common vocabulary" if self._words else "whole vocabulary"
        reader = BlankReader(prepared=_prepared(blanks), facts=np.arange(len(blanks.prompts)), whole=False)
        parts = ((np.arange(len(blanks.prompts)), reader),)
        kept = chosen[blanks.chosen].tolist()
        return self._made(model, kept, blanks.excluded, {"options": ranked, "prompt": blanks.convention}, parts, blanks.among)


Source = FactsSource | QuestionsSource | StatementsSource | ClozesSource


def source_for(context: ProbeContext) -> Source:
    """Return the examples that a suite names by `of`, and by the parameters of the probe that asks them.

    Raises:
        DataError: they cannot be read.
    """
    of = str(context.spec.param("of"))
    if of == "facts":
        return FactsSource(context)
    info = PROBES.get(of, f"probe {context.spec.id}")
    own = dict(info.params)
    given = tuple((key, value) for key, value in context.spec.params if key in own)
    outside = tuple((key, value) for key, value in context.spec.outside if key in own)
    probe = load_target(info.target)(replace(context, spec=ProbeSpec(name=of, params=given, outside=outside)))
    if isinstance(probe, LamaProbe):
        return ClozesSource(context, probe)
    return QuestionsSource(context, probe.questions) if of in {"mmlu", "questions"} else StatementsSource(context, probe.facts)


def _reader(model: LoadedModel, part: Part) -> Reader:
    if isinstance(part, PromptPart):
        return BlankReader(prepared=part.prepared, facts=part.places, whole=True)
    assert isinstance(part, StatementPart)
    texts = [question.texts() for question in part.asked]
    if model.family == "encoder":
        return TextReader(texts=tuple(map(tuple, texts)))
    found = iter(pairs_of(model, [text for options in texts for text in options], np.asarray(list(map(len, texts)))))
    return PairReader(pairs=tuple(tuple(next(found) for _ in options) for options in texts))


def _prepared(blanks: Blanks) -> Prepared:
    """Return clozes as prompts whose next token is read; no answer is run."""
    n, trie = len(blanks.prompts), TrieBuilder()
    root = trie.add_root()
    number = trie.add(root, blanks.among[:1].tolist() or [0])
    return Prepared(
        chosen=blanks.chosen,
        prompts=blanks.prompts,
        prefix=blanks.prefix,
        marks=np.asarray([places[0] for places in blanks.marks], np.int64),
        space=np.zeros(n, np.int64),
        candidates=np.full((1, 1), number, np.int64),
        answers=np.zeros((1, 1), np.int64),
        bytes=np.ones((1, 1), np.int64),
        gold=np.zeros(n, np.int64),
        spellings=np.full((n, 1), -1, np.int64),
        trie=trie.build([root]),
        continues=np.zeros(0, np.bool_),
        excluded=blanks.excluded,
        convention=blanks.convention,
    )


def _digest(lines: Any) -> str:  # noqa: ANN401 - an iterable of text
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
