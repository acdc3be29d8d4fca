"""Questions with a text that answers them, for open and closed book: TriviaQA, SQuAD, NQ-open, or a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kick.data_sets.open_questions import OpenQuestion, merged
from pytest_kick.data_sets.source import lines_of
from pytest_kick.errors import DataError
from pytest_kick.jsonl import Line

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


def load_reading(name: str, source: DataSource) -> tuple[OpenQuestion, ...]:
    """Return the questions of a data set, each once.

    Args:
        name: `triviaqa`, `squad`, `nq_open`; `path:FILE`, JSON lines with `question`, `answers` and, for open book, `context`; or
            `datasets:ID[#CONFIG][@SPLIT]` with the fields of any of these.
        source: of the data.

    Raises:
        DataError: the data cannot be read, or a row lacks a field.
    """
    kind, _, rest = name.partition(":")
    if kind == "path":
        lines: Iterable[Line] = lines_of(Path(rest))
    elif kind == "datasets":
        dataset, _, split = rest.partition("@")
        dataset, _, config = dataset.partition("#")
        lines = _hub_lines(source, (dataset, config, split or "validation"))
    elif source.directory is None:
        lines = _hub_lines(source, HUB[name])
    else:
        lines = [line for path in source.files(FOLDERS[name], PATTERNS[name]) for line in lines_of(path)]
    # An id is one question's, with several rows in TriviaQA; SQuAD asks different texts in the same words.
    return merged(rest or name, ((asked.id, asked) for asked in (_question(line, number) for number, line in enumerate(lines, start=1))))


def _hub_lines(source: DataSource, place: tuple[str, str, str]) -> Iterator[Line]:
    for number, row in enumerate(source.rows(*place)):
        yield Line(where=f"datasets:{place[0]}: row {number}", values=row)


def _question(line: Line, number: int) -> OpenQuestion:
    question, answers = _text(line.values.get("question")), _answers(line.values)
    for field, value in (("question", question), ("answer", answers)):
        if not value:
            msg = f"{line.where}: {field}: got nothing, expected it. Correct the line, or take the data anew from its source."
            raise DataError(msg)
    names = [str(line.values[key]) for key in ("id", "question_id") if line.values.get(key) is not None]
    return OpenQuestion(id=names[0] if names else f"line-{number}", question=question, answers=answers, context=_context(line.values))


def _answers(values: Any) -> tuple[str, ...]:  # noqa: ANN401 - as parsed
    """Return what `answer` or `answers` hold: a text, a list of texts, SQuAD's `text`, or TriviaQA's value and aliases."""
    found = values.get("answer", values.get("answers"))
    parts = [found.get(key) for key in ("text", "value", "aliases", "normalized_aliases")] if isinstance(found, dict) else [found]
    texts = [item for part in parts for item in (part if isinstance(part, (list, tuple)) else [part])]
    return tuple(dict.fromkeys(text for text in map(_text, texts) if text))


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
