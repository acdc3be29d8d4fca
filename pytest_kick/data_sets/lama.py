"""LAMA: cloze sentences of four sources, and facts of one's own in the same format. CC BY-NC 4.0: for non-commercial use only.

Source: Petroni et al. 2019, Language Models as Knowledge Bases?, arXiv 1909.01066; facts are dropped as its code drops them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kick.data_sets.source import DataSource, lines_of, text_of, texts_of
from pytest_kick.errors import DataError
from pytest_kick.jsonl import Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

DATASETS = ("trex", "google_re", "conceptnet", "squad")
LICENCE = "cc-by-nc"
HUB_ID = "facebook/lama"
BLANK = "[MASK]"
SUBJECT, OBJECT = "[X]", "[Y]"
TYPES = ("1-1", "N-1", "N-M")
VOCABULARY = "lama_vocab/common_vocab_cased.txt"
GOOGLE_RE = {"place_of_birth": "[X] was born in [Y] .", "date_of_birth": "[X] (born [Y]).", "place_of_death": "[X] died in [Y] ."}
"""Templates of the relations of Google-RE, as LAMA's scripts/run_experiments.py has them."""
_SENTENCES = {"squad": "lama_squad", "conceptnet": "lama_conceptnet_subset"}
_TREX = ("TREx", "TREx_single_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloze:
    """Hold one fact.

    Attributes:
        id: `relation/uuid`, unique.
        relation: it belongs to.
        subject: as labelled; for sentences from elsewhere whatever the data say.
        answer: the object's label.
        template: with `[X]` and `[Y]`; "" for a sentence of its own.
        sentence: with `[MASK]` for the answer, once or more.
    """

    id: str
    relation: str
    subject: str
    answer: str
    template: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clozes:
    """Hold the facts of a data set, `1-1`, `N-1` or `N-M` for relations of a known type, and how many lines were dropped why."""

    facts: tuple[Cloze, ...]
    types: Mapping[str, str]
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """A line with its relation, and the template that LAMA's code gives that relation."""

    line: Line
    relation: str
    template: str = ""


def check_licence(where: str, licence: str, what: str) -> None:
    """Check that the licence of LAMA's data was acknowledged.

    Raises:
        DataError: it was not.
    """
    if licence != LICENCE:
        msg = (
            f"{where}: licence: got {licence!r}, expected {LICENCE!r}: {what} is CC BY-NC 4.0, for non-commercial use only."
            f' If yours is, write `licence = "{LICENCE}"` beside the probe.'
        )
        raise DataError(msg)


def load_lama(source: DataSource, dataset: str, *, sentences: bool = False) -> Clozes:
    """Return the facts of one of `DATASETS`.

    Args:
        source: a directory with `lama_trex`, `lama_google_re`, `lama_squad`, `lama_conceptnet_subset`; or the hub's `facebook/lama`.
        dataset: its name.
        sentences: take a fact's own sentence where it has one, each sentence once; else the template of its relation where that has
            one, each pair of subject and object once, as LAMA does.

    Raises:
        DataError: a file or a field is missing.
    """
    if source.directory is None:
        where = f"datasets:{HUB_ID}#{dataset}@train"
        rows = (Line(where=f"{where}:{number}", values=row) for number, row in enumerate(source.rows(HUB_ID, dataset, "train"), 1))
        return _clozes(where, (_of_hub(line, dataset) for line in rows), {}, sentences=sentences)
    if dataset == "trex":
        return _trex(source, sentences=sentences)
    where = f"{source.directory}: {dataset}"
    if dataset == "google_re":
        samples = [
            _Sample(line=line, relation=relation, template=template)
            for relation, template in GOOGLE_RE.items()
            for line in source.lines(f"lama_google_re/{relation}_test.jsonl")
        ]
        return _clozes(where, samples, {}, sentences=sentences)
    lines = source.lines(f"{_SENTENCES[dataset]}/test.jsonl")
    return _clozes(where, [_Sample(line=line, relation=dataset) for line in lines], {}, sentences=sentences)


def load_own(path: Path, *, sentences: bool = False) -> Clozes:
    """Return facts of one's own: lines with `obj_label`, and `sub_label` and `template` or else `masked_sentences`.

    Raises:
        DataError: the file cannot be read, or a field is missing.
    """
    samples = [_of_hub(line, path.stem) for line in lines_of(path, '{"obj_label": "...", ...}')]
    return _clozes(str(path), samples, {}, sentences=sentences)


def common_vocabulary(source: DataSource) -> tuple[str, ...]:
    """Return the words that LAMA ranks among: those in the vocabularies of all models it compared.

    Raises:
        DataError: the file is missing or empty.
    """
    path = source.file(VOCABULARY)
    try:
        words = tuple(dict.fromkeys(word for line in path.read_text(encoding="utf-8").split("\n") if (word := line.strip())))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: file: got {type(error).__name__}, expected one word a line in UTF-8. Take it anew from its source."
        raise DataError(msg) from error
    if not words:
        msg = f"{path}: file: got no word, expected one a line. Take it anew from its source."
        raise DataError(msg)
    return words


def _trex(source: DataSource, *, sentences: bool) -> Clozes:
    """Read T-REx; as in LAMA, relations without a file of facts are left out."""
    types, samples = {}, []
    for line in source.lines("lama_trex/relations.jsonl"):
        relation, template = text_of(line, "relation"), text_of(line, "template")
        types[relation] = _type_of(line)
        _check_template(line, template)
        path = next((f"lama_trex/{part}/{relation}.jsonl" for part in _TREX if _has(source, f"lama_trex/{part}/{relation}.jsonl")), "")
        if path:
            samples += [_Sample(line=fact, relation=relation, template=template) for fact in source.lines(path)]
    if not samples:
        source.file("lama_trex/TREx/P19.jsonl")  # says what is missing
    return _clozes(f"{source.directory}: lama_trex", samples, types, sentences=sentences)


def _has(source: DataSource, name: str) -> bool:
    return source.directory is not None and (source.directory / name).is_file()


def _of_hub(line: Line, dataset: str) -> _Sample:
    """Return a line that names its relation and template itself; for two sources LAMA counts all facts as one relation."""
    relation = next((str(line.values[key]) for key in ("relation", "predicate_id", "pred") if line.values.get(key)), dataset)
    if dataset in _SENTENCES:
        return _Sample(line=line, relation=dataset)
    relation = relation.rpartition("/")[2]
    template = text_of(line, "template") if line.values.get("template") else GOOGLE_RE.get(relation, "")
    if template:
        _check_template(line, template)
    return _Sample(line=line, relation=relation, template=template)


def _clozes(where: str, samples: Iterable[_Sample], types: Mapping[str, str], *, sentences: bool) -> Clozes:
    facts: dict[tuple[str, ...], Cloze] = {}
    dropped: Counter[str] = Counter()
    known, names = dict(types), Counter[str]()
    for sample in samples:
        if not known.get(sample.relation):
            known[sample.relation] = _type_of(sample.line)
        if _is_judged_false(sample.line):
            dropped["judged false"] += 1
            continue
        cloze = _cloze(sample, sentences=sentences)
        if BLANK not in cloze.sentence:
            dropped["no mask"] += 1
            continue
        key = _same(cloze, sentences=sentences, number=len(facts))
        if key in facts:
            dropped["asked already"] += 1
            continue
        names[cloze.id] += 1
        facts[key] = cloze if names[cloze.id] == 1 else _renamed(cloze, names[cloze.id])
    if not facts:
        msg = f"{where}: facts: got none, expected at least one. Take the files anew from their source."
        raise DataError(msg)
    return Clozes(facts=tuple(facts.values()), types={name: kind for name, kind in known.items() if kind}, dropped=dict(dropped))


def _same(cloze: Cloze, *, sentences: bool, number: int) -> tuple[str, ...]:
    """Return what two facts share of which one is asked."""
    if sentences:
        return (cloze.sentence,)
    return (cloze.relation, cloze.subject, cloze.answer) if cloze.template else (str(number),)


def _renamed(cloze: Cloze, number: int) -> Cloze:
    fields = {name: getattr(cloze, name) for name in Cloze.__dataclass_fields__}
    return Cloze(**{**fields, "id": f"{cloze.id}#{number}"})


def _cloze(sample: _Sample, *, sentences: bool) -> Cloze:
    line, template = sample.line, sample.template
    answer = text_of(line, "obj_label").strip()
    own = list(_own_sentences(line)) if sentences or not template else []
    if own or not template:
        sentence, template = _masked(line, own, sentences=sentences), ""
        subject = str(line.values.get("sub_label") or "")
    else:
        subject = text_of(line, "sub_label").strip()
        sentence = template.replace(SUBJECT, subject).replace(OBJECT, BLANK)
    name = next((str(line.values[key]) for key in ("uuid", "id") if line.values.get(key)), f"{subject}/{answer}")
    return Cloze(
        id=f"{sample.relation}/{name}", relation=sample.relation, subject=subject, answer=answer, template=template, sentence=sentence
    )


def _own_sentences(line: Line) -> Iterator[str]:
    if line.values.get("masked_sentences"):
        yield from texts_of(line, "masked_sentences")
    elif line.values.get("masked_sentence"):
        yield text_of(line, "masked_sentence")


def _masked(line: Line, own: Sequence[str], *, sentences: bool) -> str:
    """Return the sentence to ask: all of a fact's sentences as LAMA joins them, or its first as study A takes it."""
    if not own:
        msg = f"{line.where}: masked_sentences: got nothing, expected a sentence with {BLANK}, or a template. Correct the file."
        raise DataError(msg)
    return own[0] if sentences else " ".join(own)


def _check_template(line: Line, template: str) -> None:
    if template.count(SUBJECT) != 1 or template.count(OBJECT) != 1:
        msg = f"{line.where}: template: got {json.dumps(template)[:60]}, expected one {SUBJECT} and one {OBJECT}. Correct the file."
        raise DataError(msg)


def _type_of(line: Line) -> str:
    kind = line.values.get("type") or ""
    if kind and kind not in TYPES:
        msg = f"{line.where}: type: got {json.dumps(kind, default=str)[:60]}, expected one of {', '.join(TYPES)}. Correct the file."
        raise DataError(msg)
    return str(kind)


def _is_judged_false(line: Line) -> bool:
    """Return whether more raters said no, or could not say, than yes; as LAMA counts."""
    votes = line.values.get("judgments")
    if isinstance(votes, str):
        try:
            votes = json.loads(votes.replace("'", '"'))
        except json.JSONDecodeError:
            votes = [votes]
    if votes is None:
        return False
    if not isinstance(votes, list) or not all(isinstance(vote, dict) for vote in votes):
        got = json.dumps(line.values["judgments"], default=str)[:60]
        msg = f"{line.where}: judgments: got {got}, expected a list of objects with `judgment`. Correct the file."
        raise DataError(msg)
    yes = sum(str(vote.get("judgment")) == "yes" for vote in votes)
    return len(votes) - yes > yes
