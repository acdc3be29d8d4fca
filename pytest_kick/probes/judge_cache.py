"""What a judge said, kept on disk: one file for each question, named by all that decides the answer."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class JudgeCache:
    """Keep raw texts of a judge.

    A file holds the question beside the answer, so that a person can look up why a score is what it is. Keys of the endpoint never
    come here.
    """

    def __init__(self, directory: Path) -> None:
        """Take the directory, which is made when something is kept."""
        self._directory = directory

    def get(self, question: Mapping[str, str | int | float]) -> str | None:
        """Return the answer to a question, None where there is none, it is empty, or its file is damaged."""
        try:
            kept = json.loads(self._path(question).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        answer = kept.get("answer") if isinstance(kept, dict) and kept.get("question") == dict(question) else None
        return answer if isinstance(answer, str) and answer.strip() else None

    def put(self, question: Mapping[str, str | int | float], answer: str) -> None:
        """Keep an answer; whoever reads at the same time sees all of it or nothing."""
        path = self._path(question)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial")
        partial.write_text(json.dumps({"question": dict(question), "answer": answer}, indent=1), "utf-8")
        partial.replace(path)

    def _path(self, question: Mapping[str, str | int | float]) -> Path:
        digest = hashlib.sha256(json.dumps(dict(question), sort_keys=True).encode()).hexdigest()
        return self._directory / digest[:2] / f"{digest}.json"
