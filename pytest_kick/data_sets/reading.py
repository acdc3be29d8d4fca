"""Questions with a text that answers them, for open and closed book: TriviaQA, SQuAD, NQ-open, or a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kick.data_sets.open_questions import OpenQuestion, merged
from pytest_kick.data_sets.source import id_of, lines_of, refuse
from pytest_kick.errors import DataError
from pytest_kick.jsonl import Line
from pytest_kick.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kick.data_sets.source import DataSource

TRIVIAQA, SQUAD, NQ_OPEN = "triviaqa", "squad", "nq_open"
NAMES = (TRIVIAQA, SQUAD, NQ_OPEN)
WITHOUT_CONTEXT = (NQ_OPEN,)
FOLDERS = {TRIVIAQA: "triviaqa", SQUAD: "squad_open_book", NQ_OPEN: "nq_open"}
PATTERNS = {TRIVIAQA: "*.jsonl", SQUAD: "*.jsonl", NQ_OPEN: "NQ-open.dev.jsonl"}
HUB = {
    TRIVIAQA: ("mandarjoshi/trivia_qa", "rc", "validation"),
    SQUAD: ("rajpurkar/squad", "", "validation"),
    NQ_OPEN: ("google-research-datasets/nq_open", "", "validation"),
}
FIELDS = ("id", "question", "answers", "context")
"""Of a line of one's own."""
OF_LAYOUTS = ("answer", "answer_span", "title", "question_id", "question_source", "entity_pages", "search_results")
"""What lines of the published files have too."""


def load_reading(name: str, source: DataSource) -> tuple[OpenQuestion, ...]:
    """Return the questions of a data set, each once.

    Args:
        name: `triviaqa`, `squad`, `nq_open`; `path:FILE`, JSON lines with `question`, `answers` and, for open book, `context`; or
            `datasets:ID[#CONFIG][@SPLIT]` with the fields of any of these.
        source: of the data.

    Raises:
        DataError: the data cannot be read, a row lacks a field, one id names two questions, or a line of a file of one's own has a field
            of another name.
    """
    kind, _, rest = name.partition(":")
    if kind == "path":
        lines: Iterable[Line] = lines_of(Path(rest), '{"question": "...", "answers": ["..."]}')
    elif kind == "datasets":
        dataset, _, split = rest.partition("@")
        dataset, _, config = dataset.partition("#")
        lines = _hub_lines(source, (dataset, config, split or "validation"))
    elif source.directory is None:
        lines = _hub_lines(source, HUB[name])
    else:
        lines = [line for path in source.files(FOLDERS[name], PATTERNS[name]) for line in lines_of(path)]
    return merged(rest or name, _by_id(lines, own=kind == "path"))


def _hub_lines(source: DataSource, place: tuple[str, str, str]) -> Iterator[Line]:
    for number, row in enumerate(source.rows(*place)):
        yield Line(where=f"datasets:{place[0]}: row {number}", values=row)


def _by_id(lines: Iterable[Line], *, own: bool) -> Iterator[tuple[str, OpenQuestion]]:
    """Iterate over the rows and their ids: an id is one question's, with several rows in TriviaQA; SQuAD asks texts in the same words."""
    said: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if own:
            _check_own(line)
        asked = _question(line, number)
        if said.setdefault(asked.id, asked.question) != asked.question:
            msg = f"{line.where}: id: got {asked.id!r} a second time with another question, expected an id of its own for each. Rename one."
            raise DataError(msg)
        yield asked.id, asked


def _check_own(line: Line) -> None:
    """Refuse what a file of one's own may hold and nobody would read."""
    unknown = next((field for field in line.values if field not in FIELDS + OF_LAYOUTS), None)
    if unknown is not None:
        refuse(line, unknown, f"one of the fields {', '.join(FIELDS)}", did_you_mean(unknown, FIELDS).rstrip("."))
    if line.values.get("answer") is not None and line.values.get("answers") is not None:
        refuse(line, "answer", "either answer or answers", "Put all into answers")
    if not isinstance(line.values.get("context") or "", str):
        refuse(line, "context", "a text", "Correct it")


def _question(line: Line, number: int) -> OpenQuestion:
    question = _text(line.values.get("question"))
    if not question:
        refuse(line, "question", "a text", "Correct the line, or take the data anew from its source")
    name = id_of(line, ("id", "question_id"), f"line-{number}")
    return OpenQuestion(id=name, question=question, answers=_answers(line), context=_context(line.values))


def _answers(line: Line) -> tuple[str, ...]:
    """Return what `answer` or `answers` hold: a text, a list of texts, SQuAD's `text`, or TriviaQA's value and aliases."""
    field = next((name for name in ("answer", "answers") if line.values.get(name) is not None), "answers")
    found = line.values.get(field)
    parts = [found.get(key) for key in ("text", "value", "aliases", "normalized_aliases")] if isinstance(found, dict) else [found]
    items = [item for part in parts if part is not None for item in (part if isinstance(part, (list, tuple)) else [part])]
    answers = tuple(dict.fromkeys(text for text in map(_text, items) if text))
    if not answers or not all(isinstance(item, str) for item in items):
        refuse(line, field, "a text or a list of texts", "Correct the line (numbers stand in quotes), or take the data anew")
    return answers


def _context(values: Any) -> str:  # noqa: ANN401 - as parsed
    """Return the text of SQuAD, or TriviaQA's first page of Wikipedia and its first page of the web, as LLM-KICK joins them."""
    pages = [_text(values.get("context"))]
    for key, field in (("entity_pages", "wiki_context"), ("search_results", "search_context")):
        held = values.get(key)
        texts = held.get(field) if isinstance(held, dict) else [page.get(field) for page in held or () if isinstance(page, dict)]
        pages += [_text(text) for text in (texts or ())[:1]]
    return "\n\n".join(page for page in pages if page)


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
