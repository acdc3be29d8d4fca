"""MMLU: 57 subjects of four disciplines, four options each.

Source: Hendrycks et al. 2021, Measuring Massive Multitask Language Understanding, arXiv 2009.03300.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_kick.errors import DataError
from pytest_kick.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_kick.data_sets.source import DataSource

Split = Literal["dev", "val", "test"]
HUB_ID = "cais/mmlu"
HUB_SPLITS: dict[Split, str] = {"dev": "dev", "val": "validation", "test": "test"}
FIELDS = ("question", "A", "B", "C", "D", "answer")
LETTERS = ("A", "B", "C", "D")
_SHOWN = 60

DISCIPLINES: dict[str, tuple[str, ...]] = {
    "stem": (
        "abstract_algebra",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    ),
    "humanities": (
        "formal_logic",
        "high_school_european_history",
        "high_school_us_history",
        "high_school_world_history",
        "international_law",
        "jurisprudence",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "prehistory",
        "professional_law",
        "world_religions",
    ),
    "social_sciences": (
        "econometrics",
        "high_school_geography",
        "high_school_government_and_politics",
        "high_school_macroeconomics",
        "high_school_microeconomics",
        "high_school_psychology",
        "human_sexuality",
        "professional_psychology",
        "public_relations",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ),
    "other": (
        "anatomy",
        "business_ethics",
        "clinical_knowledge",
        "college_medicine",
        "global_facts",
        "human_aging",
        "management",
        "marketing",
        "medical_genetics",
        "miscellaneous",
        "nutrition",
        "professional_accounting",
        "professional_medicine",
        "virology",
    ),
}
"""Subjects by discipline, as the authors' own table has them; lm-eval counts anatomy to STEM."""
DISCIPLINE_OF = {subject: discipline for discipline, subjects in DISCIPLINES.items() for subject in subjects}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Hold one question.

    Attributes:
        id: `subject/split/number`, the number counted from 0 within its subject and split.
        subject: of the 57.
        question: as it stands, spaces around it removed.
        options: four texts.
        answer: place of the right one, 0 to 3.
    """

    id: str
    subject: str
    question: str
    options: tuple[str, ...]
    answer: int


def subjects_of(where: str, chosen: str) -> tuple[str, ...]:
    """Return the subjects that a suite names: `all`, a discipline, or one subject.

    Raises:
        DataError: there is no such subject.
    """
    if chosen == "all":
        return tuple(sorted(DISCIPLINE_OF))
    if chosen in DISCIPLINES:
        return DISCIPLINES[chosen]
    if chosen not in DISCIPLINE_OF:
        hint = did_you_mean(chosen, DISCIPLINE_OF) if did_you_mean(chosen, DISCIPLINE_OF).startswith("Did") else "Correct it."
        msg = f"{where}: subjects: got {chosen!r}, expected all, {', '.join(DISCIPLINES)} or one of the 57 subjects. {hint}"
        raise DataError(msg)
    return (chosen,)


def load_mmlu(source: DataSource, split: Split, subjects: tuple[str, ...]) -> dict[str, tuple[Item, ...]]:
    """Return the questions of a split, by subject, in the order of the data.

    Args:
        source: a directory with `mmlu/SPLIT/SUBJECT_SPLIT.csv`, or the hub's `cais/mmlu`.
        split: `dev` (the examples of few-shot prompts), `val` or `test`.
        subjects: wanted.

    Raises:
        DataError: a file or a field is missing, or an answer is none of the options.
    """
    if source.directory is None:
        return _of_hub(source, split, subjects)
    return {name: tuple(_of_file(source.file(f"mmlu/{split}/{name}_{split}.csv"), name, split)) for name in subjects}


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield `file:line` and the six cells of each question of a CSV file without a header: question, four options, a letter.

    Raises:
        DataError: the file cannot be read, has no question, or a line has not six cells.
    """
    count = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            begin = 1
            for row in reader:
                where, begin = f"{path}:{begin}", reader.line_num + 1
                if not row:
                    continue
                if len(row) != len(FIELDS):
                    field = FIELDS[len(row)] if len(row) < len(FIELDS) else "line"
                    msg = f"{where}: {field}: got {len(row)} fields, expected {', '.join(FIELDS)}. Correct the file."
                    raise DataError(msg)
                yield where, row
                count += 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: file: got {type(error).__name__} ({error}), expected a CSV file in UTF-8. Take it anew from its source."
        raise DataError(msg) from error
    if not count:
        msg = f"{path}: file: got no question, expected at least one. Take it anew from its source."
        raise DataError(msg)


def _of_file(path: Path, subject: str, split: Split) -> Iterator[Item]:
    """Yield the questions of a file."""
    for number, (where, row) in enumerate(csv_rows(path)):
        yield _item(where, f"{subject}/{split}/{number}", subject, dict(zip(FIELDS, row, strict=True)))


def _of_hub(source: DataSource, split: Split, subjects: tuple[str, ...]) -> dict[str, tuple[Item, ...]]:
    found: dict[str, list[Item]] = {name: [] for name in subjects}
    config = subjects[0] if len(subjects) == 1 else "all"
    for row in source.rows(HUB_ID, config, HUB_SPLITS[split]):
        subject = str(row.get("subject") or config)
        if subject in found:
            name = f"{subject}/{split}/{len(found[subject])}"
            found[subject].append(_item(f"datasets:{HUB_ID}: {name}", name, subject, _fields(row)))
    missing = [name for name, items in found.items() if not items]
    if missing:
        msg = f"datasets:{HUB_ID}#{config}: subject: got no question of {', '.join(missing)}, expected some. Give --kick-data DIR."
        raise DataError(msg)
    return {name: tuple(items) for name, items in found.items()}


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the hub under the names of the files' columns."""
    answer, choices = row.get("answer"), row.get("choices")
    letter = LETTERS[answer] if isinstance(answer, int) and 0 <= answer < len(LETTERS) else answer
    options = dict(zip(LETTERS, choices, strict=False)) if isinstance(choices, list | tuple) else {}
    return {"question": row.get("question"), **options, "answer": letter}


def _item(where: str, name: str, subject: str, values: Mapping[str, Any]) -> Item:
    for field in FIELDS:
        value = values.get(field)
        if not isinstance(value, str) or not value.strip():
            got = "nothing" if value is None or value == "" else repr(value)[:_SHOWN]
            msg = f"{where}: {field}: got {got}, expected a text. Correct the file, or take it anew from its source."
            raise DataError(msg)
    answer = values["answer"].strip()
    if answer not in LETTERS:
        msg = f"{where}: answer: got {answer[:_SHOWN]!r}, expected one of {', '.join(LETTERS)}. Correct the file."
        raise DataError(msg)
    options = tuple(values[letter].strip() for letter in LETTERS)
    return Item(id=name, subject=subject, question=values["question"].strip(), options=options, answer=LETTERS.index(answer))
