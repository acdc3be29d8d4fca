"""Turn the files of data sets, as their authors publish them, into rows as the hub has them; one function a data set.

Texts are taken as they stand: what lm-eval's prompts strip, they strip themselves.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_kick.data_sets.mmlu import LETTERS, csv_rows
from pytest_kick.data_sets.source import lines_of, text_of, texts_of
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kick.jsonl import Line

    Row = dict[str, Any]

LABELS = "ABCDEFGHI"
TSV_COLUMNS = ("ID", "Question Stem", "Choices", "Complete Question", "Answer Key")
_SHOWN = 60


def arc(path: Path) -> Iterator[Row]:
    """Yield rows of ARC: lines of `question`, `choices` and `label` (place of the right one), or the hub's own (`answerKey`)."""
    for line in lines_of(path):
        question, choices = text_of(line, "question"), line.values.get("choices")
        if isinstance(choices, dict):
            texts, labels = choices.get("text"), choices.get("label")
            answer = line.values.get("answerKey")
            if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels) or answer not in labels:
                _refuse(line.where, "choices", choices, "text and label, as many of each, the answerKey among them")
        else:
            texts = list(texts_of(line, "choices"))
            labels = list(LABELS[: len(texts)])
            answer = labels[_place(line, "label", len(texts))]
        yield {"question": question, "choices": {"text": texts, "label": labels}, "answerKey": answer}


def piqa(path: Path) -> Iterator[Row]:
    """Yield rows of PIQA: lines of `goal`, `sol1`, `sol2`; the right ones, 0 or 1 a line, in `NAME-labels.lst` beside."""
    beside = path.with_name(f"{path.stem}-labels.lst")
    if not beside.is_file():
        _refuse(str(path), "labels", "nothing", f"{beside.name} beside it")
    labels = beside.read_text(encoding="utf-8").split()
    lines = lines_of(path)
    if len(labels) != len(lines) or set(labels) - {"0", "1"}:
        _refuse(str(beside), "labels", f"{len(labels)}, of {sorted(set(labels))[:4]}", f"{len(lines)}, 0 or 1 each")
    for line, label in zip(lines, labels, strict=True):
        yield {field: text_of(line, field) for field in ("goal", "sol1", "sol2")} | {"label": int(label)}


def boolq(path: Path) -> Iterator[Row]:
    """Yield rows of BoolQ as SuperGLUE has them: a passage opens with its title, where the lines have one."""
    for number, line in enumerate(lines_of(path)):
        answer, title = line.values.get("answer"), line.values.get("title")
        if not isinstance(answer, bool):
            _refuse(line.where, "answer", answer, "true or false")
        passage = f"{title} -- {text_of(line, 'passage')}" if title else text_of(line, "passage")
        yield {"question": text_of(line, "question"), "passage": passage, "idx": number, "label": int(answer)}


def winogrande(path: Path) -> Iterator[Row]:
    """Yield rows of WinoGrande: `sentence` with one `_`, `option1`, `option2`, `answer` (1 or 2)."""
    for line in lines_of(path):
        row = {field: text_of(line, field) for field in ("sentence", "option1", "option2", "answer")}
        if row["sentence"].count("_") < 1 or row["answer"] not in {"1", "2"}:
            _refuse(line.where, "answer", row["answer"], "1 or 2, and a sentence with _")
        yield row


def openbookqa(path: Path) -> Iterator[Row]:
    """Yield rows of OpenBookQA: columns divided by tabs, under a header; options as `(A) ... (B) ...`, a label that comes again is text."""
    lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if tuple(lines[0].split("\t")) != TSV_COLUMNS:
        _refuse(f"{path}:1", "columns", lines[0], ", ".join(TSV_COLUMNS))
    for number, text in enumerate(lines[1:], start=2):
        cells = text.split("\t")
        if len(cells) != len(TSV_COLUMNS):
            _refuse(f"{path}:{number}", "columns", len(cells), str(len(TSV_COLUMNS)))
        texts: list[str] = []
        for label, part in zip(LABELS, _parts(cells[2]), strict=False):
            texts.append(part.removeprefix(f"({label})").strip())
        answer = cells[4].strip()
        if len(texts) < 2 or not all(texts) or len(answer) != 1 or answer not in LABELS[: len(texts)]:  # noqa: PLR2004 - a choice
            _refuse(f"{path}:{number}", "Choices", cells[2], "(A) ... (B) ..., the Answer Key among them")
        yield {
            "id": cells[0],
            "question_stem": cells[1],
            "choices": {"text": texts, "label": list(LABELS[: len(texts)])},
            "answerKey": answer,
        }


def _parts(options: str) -> list[str]:
    """Return the options, each with its label, nothing where the first lacks it."""
    places = [options.find(f"({LABELS[0]})")]
    while places[-1] >= 0:
        places.append(options.find(f"({LABELS[len(places)]})", places[-1]))
    ends = [*places[1:-1], len(options)]
    return [options[begin:end] for begin, end in zip(places[:-1], ends, strict=True)] if len(places) > 1 else []


def truthfulqa(path: Path) -> Iterator[Row]:
    """Yield rows of TruthfulQA's choices: a list of `question`, `mc1_targets`, `mc2_targets` (option -> 1 or 0), a right one first."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        _refuse(str(path), "file", f"no JSON ({error})", "a list")
    for number, entry in enumerate(listed if isinstance(listed, list) else [None]):
        values: Row = entry if isinstance(entry, dict) else {}
        row: Row = {"question": values.get("question")}
        for field in ("mc1_targets", "mc2_targets"):
            targets = values.get(field)
            if not row["question"] or not isinstance(targets, dict) or not _right_first(list(targets.values())):
                _refuse(f"{path}: entry {number}", field, targets, "options with 1 or 0, a right one first, and a question")
            row[field] = {"choices": list(targets), "labels": list(targets.values())}
        yield row


def _right_first(labels: list[Any]) -> bool:
    return labels[:1] == [1] and set(labels) <= {0, 1}


def lambada(path: Path) -> Iterator[Row]:
    """Yield rows of LAMBADA as OpenAI prepared them: `text`."""
    yield from ({"text": text_of(line, "text")} for line in lines_of(path))


def nq_open(path: Path) -> Iterator[Row]:
    """Yield rows of NQ-open: `question`, `answer` (a list)."""
    yield from ({"question": text_of(line, "question"), "answer": list(texts_of(line, "answer"))} for line in lines_of(path))


def triviaqa(path: Path) -> Iterator[Row]:
    """Yield rows of TriviaQA, which are the hub's: `question`, `answer` with `aliases`."""
    for line in lines_of(path):
        answer = line.values.get("answer")
        if not isinstance(answer, dict) or not isinstance(answer.get("aliases"), list) or not answer["aliases"]:
            _refuse(line.where, "answer", answer, "an object with aliases")
        yield {"question": text_of(line, "question"), "answer": answer}


def mmlu(path: Path) -> Iterator[Row]:
    """Yield rows of MMLU: question, four options, letter of the right one, without a header."""
    subject = path.stem.rpartition("_")[0]
    for where, cells in csv_rows(path):
        if cells[5].strip() not in LETTERS:
            _refuse(where, "answer", cells[5], f"one of {', '.join(LETTERS)}")
        yield {"question": cells[0], "subject": subject, "choices": cells[1:5], "answer": LETTERS.index(cells[5].strip())}


def _place(line: Line, field: str, n: int) -> int:
    value = line.values.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n:
        _refuse(line.where, field, value, f"a whole number from 0 to {n - 1}")
    return value


def _refuse(where: str, field: str, got: object, rule: str) -> NoReturn:
    shown = "nothing" if got is None else " ".join(str(got).split())[:_SHOWN]
    msg = f"{where}: {field}: got {shown}, expected {rule}. Correct the file, or take it anew from its source."
    raise DataError(msg)
