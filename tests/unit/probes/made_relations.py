"""Made-up data in the layouts of LAMA, BEAR and ParaRel, in words of the plain scorer's tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.context import ProbeContext
from pytest_kick.registry import PROBES, load_target

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ANSWERS = ("kalomi", "zi", "rentu", "mi", "shaka")
TEMPLATES = ("the city of [X] is [Y].", "[Y] is the city of [X].", "[X] has [Y].")
WORDS = ("ka", "lo", "mi", "ren", "tu", "zi", "red", "blue", "city", "kalo")


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_lama(folder: Path) -> None:
    """Write two relations of T-REx, one without facts, Google-RE, sentences and the vocabulary."""
    kinds = (("P1", "the city of [X] is [Y] .", "1-1"), ("P2", "[X] has [Y] red .", "N-M"), ("P3", "[X] is [Y] .", "N-1"))
    write(folder / "lama_trex" / "relations.jsonl", [{"relation": r, "template": t, "type": kind} for r, t, kind in kinds])
    objects = {"P1": ("zi", "mi", "kalomi", "red", "sha"), "P2": ("blue", "lo", "ka")}
    for relation, found in objects.items():
        rows = [
            {"uuid": f"u{number}", "sub_label": subject, "obj_label": found[number % len(found)]}
            for number, subject in enumerate(["kalo", "rentu", "vo", "zimi", "tulo", "shavo", "lomi", "mika", "kalo", "renzi"])
        ]
        write(folder / "lama_trex" / ("TREx" if relation == "P1" else "TREx_single_token") / f"{relation}.jsonl", [*rows, rows[0]])
    for relation in ("place_of_birth", "date_of_birth", "place_of_death"):
        rows = [
            {
                "uuid": "1",
                "sub_label": "kalo",
                "obj_label": "zi",
                "judgments": votes("yes", "no"),
                "masked_sentences": ["kalo has [MASK]."],
            },
            {"uuid": "2", "sub_label": "rentu", "obj_label": "mi", "judgments": votes("no", "no", "yes"), "masked_sentences": ["a [MASK]"]},
            {"uuid": "3", "sub_label": "vo", "obj_label": "mi", "judgments": votes("yes"), "masked_sentences": ["vo is [MASK] of [MASK]"]},
        ]
        write(folder / "lama_google_re" / f"{relation}_test.jsonl", rows)
    write(
        folder / "lama_squad" / "test.jsonl", [{"id": "s", "sub_label": "Squad", "obj_label": "mi", "masked_sentences": ["the [MASK] is"]}]
    )
    (folder / "lama_vocab").mkdir()
    (folder / "lama_vocab" / "common_vocab_cased.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")


def votes(*judgments: str) -> list[dict[str, str]]:
    """Return raters' judgments as Google-RE has them."""
    return [{"rater": "1", "judgment": judgment} for judgment in judgments]


def write_bear(folder: Path) -> None:
    """Write a relation of five answers and one of two."""
    spaces = {"P7": (TEMPLATES, ANSWERS), "P8": (TEMPLATES[::-1], ("red", "lomi"))}
    table = {name: {"templates": templates, "answer_space_labels": answers} for name, (templates, answers) in spaces.items()}
    (folder / "bear" / "BEAR").mkdir(parents=True)
    (folder / "bear" / "BEAR" / "metadata_relations.json").write_text(json.dumps(table), encoding="utf-8")
    for name, (_, answers) in spaces.items():
        rows = [
            {"sub_id": f"Q{number}", "sub_label": subject, "obj_label": answers[number % len(answers)]}
            for number, subject in enumerate(["kalo", "ren", "tuvo", "zimi", "lo", "sha"])
        ]
        write(folder / "bear" / "BEAR" / f"{name}.jsonl", rows)


def write_pararel(folder: Path) -> None:
    """Write one relation of three patterns, and one that has a single pattern."""
    write(folder / "pararel" / "patterns" / "P7.jsonl", [{"pattern": template} for template in TEMPLATES[1:] + TEMPLATES[:1]])
    write(folder / "pararel" / "patterns" / "P9.jsonl", [{"pattern": TEMPLATES[0]}])
    for name in ("P7", "P9"):
        rows = [
            {"uuid": f"u{number}", "sub_label": subject, "obj_label": ("zi", "mi", "ka")[number % 3]}
            for number, subject in enumerate(["kalo", "rentu", "vo", "zimi", "tulo", "shavo"])
        ]
        write(folder / "pararel" / "trex_lms_vocab" / f"{name}.jsonl", rows)


def made(name: str, folder: Path | None, /, *, facts: str = "", outside: str = "", **params: Any) -> Any:
    """Make a probe as a suite asks for it; `outside` is the file that the parameter `dataset` names."""
    info = PROBES.get(name, "test")
    given = {**params, **({"dataset": "own"} if outside else {})}
    spec = ProbeSpec(
        name=name,
        params=tuple((key, given[key]) for key, _ in info.params if key in given),
        outside=(("dataset", outside),) if outside else (),
    )
    return load_target(info.target)(ProbeContext(spec=spec, data=folder, facts=facts, offline=True))
