"""Facts as token ids: prompts, candidate answers, accepted spellings. Done once per tokenizer and family."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.probes.tokens import Asker, asker_for
from pytest_kick.probes.trie import Ints, Trie, TrieBuilder, pad_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.facts import Fact, FactSet, Relation
    from pytest_kick.models.loaded import LoadedModel

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Hold n facts that a tokenizer can express, over the answer spaces of R relations.

    Attributes:
        chosen: `(n,)` index of each fact in its data set.
        prompts: token ids of each prompt.
        prefix: what a decoder is given before the answer, where the prompt goes to an encoder; else empty.
        marks: `(n,)` position in the prompt after which the answer is read: its last token, or the mask.
        space: `(n,)` relation of each fact, 0 to R - 1: its root is `trie.roots[space]`.
        candidates: `(R, C)` sequence number of each candidate, -1 where a relation has fewer.
        answers: `(R, C)` index of each candidate in the relation's own answer space.
        bytes: `(R, C)` length of each candidate in bytes of UTF-8, closing text included.
        gold: `(n,)` column of the gold answer in `candidates`.
        spellings: `(n, A)` sequence numbers of the canonical label and the aliases, without closing text; -1 where there are fewer.
        trie: the sequences.
        continues: `(vocabulary,)` whether a token right after a word would make the word longer; empty where nothing is generated.
        excluded: reason -> number of facts left out.
        convention: `bos`, `raw`, `sentinel` or `mask`.
    """

    chosen: Ints
    prompts: tuple[Ids, ...]
    prefix: Ids
    marks: Ints
    space: Ints
    candidates: Ints
    answers: Ints
    bytes: Ints
    gold: Ints
    spellings: Ints
    trie: Trie
    continues: np.typing.NDArray[np.bool_]
    excluded: dict[str, int]
    convention: str

    def __len__(self) -> int:
        """Return the number of facts."""
        return len(self.prompts)


class _Space:
    """One relation's answer space as sequences: those the tokenizer can express."""

    def __init__(self, asker: Asker, trie: TrieBuilder, relation: Relation, stem: str) -> None:
        self.root = trie.add_root()
        self.asker, self.trie, self.stem = asker, trie, stem
        # Without closing text a label could be the beginning of another one, which could then never win.
        self.after = relation.prompt("")[1] or "."
        spelled = asker.answers(stem, relation.answers, self.after)
        self.tokens = {label: ids for label, ids in zip(relation.answers, spelled, strict=True) if ids}
        self.reasons = {label: "unknown token" for label, ids in zip(relation.answers, spelled, strict=True) if ids is None}
        self.candidates = [trie.add(self.root, ids) for ids in self.tokens.values()]
        self.index = [number for number, label in enumerate(relation.answers) if label in self.tokens]
        self.bytes = [len(f" {label}{self.after}".encode()) for label in self.tokens]
        self.column = {label: column for column, label in enumerate(self.tokens)}
        self._spellings: dict[str, int] = {}

    def reason(self, fact: Fact, prompt: tuple[Ids, int] | None, gold: Ids | None) -> str:
        """Return why a fact cannot be scored, or nothing."""
        if fact.answer not in self.tokens:
            return self.reasons.get(fact.answer, "answer of several tokens")
        if prompt is None:
            return "unknown token"
        if len(self.tokens) == 1:
            return "answer space of one"
        return "" if gold == self.tokens[fact.answer] else "answer spelled differently after this prompt"

    def spellings(self, fact: Fact) -> list[int]:
        """Return the sequence numbers of the accepted answers of a fact."""
        names = (fact.answer, *fact.aliases)
        new = [name for name in names if name not in self._spellings]
        for name, ids in zip(new, self.asker.answers(self.stem, new, ""), strict=True):
            self._spellings[name] = self.trie.add(self.root, ids) if ids else -1
        return [number for name in names if (number := self._spellings[name]) >= 0]


def prepare(facts: FactSet, model: LoadedModel, leads: Sequence[str] = ()) -> Prepared:
    """Turn facts into token ids.

    Args:
        facts: to ask.
        model: whose tokenizer and family decide how.
        leads: text before the prompt of each fact, with what separates the two; empty for none.

    Raises:
        ProbeError: the tokenizer lacks what the family needs (a mask, sentinels), or not one fact can be scored.
    """
    asker = asker_for(model)
    stems = [facts.relations[fact.relation].prompt(fact.subject)[0] for fact in facts.facts]
    trie, spaces = TrieBuilder(), {}
    for fact, stem in zip(facts.facts, stems, strict=True):
        if fact.relation not in spaces:
            spaces[fact.relation] = _Space(asker, trie, facts.relations[fact.relation], stem)
    stems = [lead + stem for lead, stem in zip(leads, stems, strict=True)] if leads else stems
    asked = [(fact, spaces[fact.relation], stem) for fact, stem in zip(facts.facts, stems, strict=True)]
    prompts = [asker.prompt(stem, space.after) for _, space, stem in asked]
    gold = asker.each([(stem, fact.answer, space.after) for fact, space, stem in asked])
    reasons = [s.reason(fact, prompt, ids) for (fact, s, _), prompt, ids in zip(asked, prompts, gold, strict=True)]
    kept = [number for number, reason in enumerate(reasons) if not reason]
    excluded = dict(sorted(Counter(filter(None, reasons)).items()))
    if not kept:
        msg = f"probe facts: model {model.name!r}: got no fact that its tokenizer can express ({excluded}), expected some. Use other facts."
        raise ProbeError(msg)
    return _assemble(asker, trie, list(spaces.values()), [(*asked[k][:2], prompts[k]) for k in kept], kept, excluded)


def _assemble(
    asker: Asker, trie: TrieBuilder, spaces: list[_Space], asked: list[tuple[Any, ...]], kept: list[int], excluded: dict[str, int]
) -> Prepared:
    number = {space.root: place for place, space in enumerate(spaces)}
    roots = np.asarray([number[space.root] for _, space, _ in asked], np.int64)
    spellings = pad_rows([space.spellings(fact) for fact, space, _ in asked], -1)
    return Prepared(
        chosen=np.asarray(kept, np.int64),
        prompts=tuple(prompt[0] for *_, prompt in asked),
        prefix=asker.prefix,
        marks=np.asarray([prompt[1] for *_, prompt in asked], np.int64),
        space=roots,
        candidates=pad_rows([space.candidates for space in spaces], -1),
        answers=pad_rows([space.index for space in spaces], -1),
        bytes=pad_rows([space.bytes for space in spaces], 1),
        gold=np.asarray([space.column[fact.answer] for fact, space, _ in asked], np.int64),
        spellings=spellings,
        trie=trie.build([space.root for space in spaces]),
        continues=asker.continues(),
        excluded=excluded,
        convention=asker.convention,
    )
