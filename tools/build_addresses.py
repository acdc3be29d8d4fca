"""Build the shipped text for perplexity from inaugural addresses: `python -m tools.build_addresses inaugural.zip`."""

from __future__ import annotations

import hashlib
import re
import sys
import zipfile
from pathlib import Path

TARGET = Path(__file__).parents[1] / "pytest_kick" / "data" / "texts" / "addresses.txt"
SHA256 = "7c5fb5793e31fbeae12bf1aa0ffda5336468f07cedb50654c6d31ca384e2046b"
ADDRESSES = (
    "1789-Washington",
    "1801-Jefferson",
    "1861-Lincoln",
    "1865-Lincoln",
    "1905-Roosevelt",
    "1913-Wilson",
    "1933-Roosevelt",
    "1953-Eisenhower",
    "1981-Reagan",
)


def paragraphs(path: Path) -> list[str]:
    """Return the paragraphs of the addresses, each on one line.

    Raises:
        ValueError: the file is another edition.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        msg = f"{path}: sha256: got {found}, expected {SHA256}. Take the edition that SOURCES.md names."
        raise ValueError(msg)
    with zipfile.ZipFile(path) as archive:
        text = "\n\n".join(archive.read(f"inaugural/{name}.txt").decode("ascii") for name in ADDRESSES)
    plain = [re.sub(r"\s+", " ", block).strip() for block in re.split(r"\n\s*\n", text)]
    return [block for block in plain if block]


def main(arguments: list[str]) -> None:
    """Write the text."""
    found = paragraphs(Path(arguments[0]))
    TARGET.write_text("\n\n".join(found) + "\n", encoding="utf-8")
    print(f"{TARGET}: {len(found)} paragraphs, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
