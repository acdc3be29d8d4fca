"""Build the shipped calibration text from two public-domain books: `python -m tools.build_text 1661-8.txt 2701-0.txt`."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).parents[1] / "pytest_kick" / "data" / "texts" / "calibration.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Say how to cut a book out of its file: from the last line that equals `first` to the line that begins with `end`."""

    sha256: str
    encoding: str
    first: str
    end: str


BOOKS = (
    Book(
        sha256="87a68129bb1dd7c2eecca7a98f97c27bd507d9901a5e1115de765745a127a82e",
        encoding="latin-1",
        first="ADVENTURE I. A SCANDAL IN BOHEMIA",
        end="End of the Project Gutenberg",
    ),
    Book(
        sha256="baf9b04fcf6e0008f30eaaa6697277751448c1070b20175e0082f28cbb161fd3",
        encoding="utf-8-sig",
        first="CHAPTER 1. Loomings.",
        end="End of Project Gutenberg",
    ),
)


def paragraphs(content: bytes, book: Book) -> list[str]:
    """Return the paragraphs of a book, each on one line, without the marks of italics.

    Raises:
        ValueError: the file is another edition.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != book.sha256:
        msg = f"{book.first}: sha256: got {found}, expected {book.sha256}. Take the edition that SOURCES.md names."
        raise ValueError(msg)
    lines = content.decode(book.encoding).splitlines()
    start = max(number for number, line in enumerate(lines) if line.strip() == book.first)
    stop = next(number for number, line in enumerate(lines) if line.startswith(book.end))
    blocks = re.split(r"\n\s*\n", "\n".join(lines[start:stop]))
    plain = [re.sub(r"\s+", " ", block.replace("_", "")).strip() for block in blocks]
    return [block for block in plain if re.search(r"[A-Za-z]", block)]


def main(arguments: list[str]) -> None:
    """Write the text."""
    found = [block for path, book in zip(arguments, BOOKS, strict=True) for block in paragraphs(Path(path).read_bytes(), book)]
    TARGET.write_text("\n\n".join(found) + "\n", encoding="utf-8")
    print(f"{TARGET}: {len(found)} paragraphs, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
