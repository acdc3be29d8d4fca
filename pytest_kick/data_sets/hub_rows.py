"""Rows of data sets as the hub lays them out, read from the files that a directory of `--kick-data` holds.

lm-eval's tasks name a data set of the hub and a configuration, and read splits of rows. Here each split is read when it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kick.data_sets import hub_readers as readers
from pytest_kick.data_sets.source import lines_of
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Reader = Callable[[Path], Iterator[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Say where the files of a data set lie.

    Attributes:
        folder: of the directory.
        splits: name on the hub -> globs in the folder, `{config}` for the configuration; the files of the first that matches are read.
        read: yields the rows of a file.
        configs: that the files hold; empty for all.
    """

    folder: str
    splits: Mapping[str, tuple[str, ...]]
    read: Reader
    configs: tuple[str, ...] = ()


LAYOUTS: dict[str, Layout] = {
    "allenai/ai2_arc": Layout(
        folder="arc",
        splits={name: (f"{{config}}-{name}.jsonl",) for name in ("train", "validation", "test")},
        read=readers.arc,
        configs=("ARC-Easy", "ARC-Challenge"),
    ),
    "baber/piqa": Layout(folder="piqa", splits={"train": ("train.jsonl",), "validation": ("valid.jsonl",)}, read=readers.piqa),
    "aps/super_glue": Layout(
        folder="boolq",
        splits={"train": ("train.jsonl",), "validation": ("dev.jsonl", "dev_with_passages*.jsonl")},
        read=readers.boolq,
        configs=("boolq",),
    ),
    "allenai/winogrande": Layout(
        folder="winogrande",
        splits={"train": ("train_xl.jsonl", "resplit_train*.jsonl"), "validation": ("dev.jsonl",)},
        read=readers.winogrande,
        configs=("winogrande_xl",),
    ),
    "allenai/openbookqa": Layout(
        folder="openbookqa",
        splits={"train": ("train.tsv",), "validation": ("dev.tsv",), "test": ("test.tsv",)},
        read=readers.openbookqa,
        configs=("main",),
    ),
    "truthfulqa/truthful_qa": Layout(
        folder="truthfulqa", splits={"validation": ("mc_task.json",)}, read=readers.truthfulqa, configs=("multiple_choice",)
    ),
    "EleutherAI/lambada_openai": Layout(
        folder="lambada", splits={"test": ("lambada_test.jsonl",)}, read=readers.lambada, configs=("default",)
    ),
    "google-research-datasets/nq_open": Layout(
        folder="nq_open", splits={"train": ("NQ-open.train.jsonl",), "validation": ("NQ-open.dev.jsonl",)}, read=readers.nq_open
    ),
    "mandarjoshi/trivia_qa": Layout(
        folder="triviaqa", splits={"validation": ("*.jsonl",)}, read=readers.triviaqa, configs=("rc", "rc.nocontext")
    ),
    "cais/mmlu": Layout(
        folder="mmlu",
        splits={"dev": ("dev/{config}_dev.csv",), "validation": ("val/{config}_val.csv",), "test": ("test/{config}_test.csv",)},
        read=readers.mmlu,
    ),
}
"""By the id that lm-eval's tasks name."""
OWN_SPLITS = "{split}.jsonl"
"""Of a data set that a directory holds in the hub's own rows."""


class HubRows:
    """Read splits of one data set.

    Attributes:
        dataset: id on the hub.
        folder: that holds the files.
    """

    def __init__(self, dataset: str, folder: Path, config: str, layout: Layout | None) -> None:
        """Take the folder, and its layout; None for the hub's own rows."""
        self.dataset, self.folder = dataset, folder
        self._config, self._layout = config, layout

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Return the rows of a split.

        Raises:
            DataError: the folder has no such split, or a file of it is malformed.
        """
        files = self._files(split)
        if not files:
            held = [name for name in self._splits() if self._files(name)]
            msg = f"--kick-data: {self.folder}: split: got no {split!r} of {self.dataset} ({self._expected(split)}), expected it; it has"
            msg += f" {', '.join(held) or 'none'}. Lay it out as docs/data.md says, or ask without shots where they alone need it."
            raise DataError(msg)
        read = self._layout.read if self._layout else _as_they_are
        found = [row for path in files for row in read(path)]
        if not found:
            msg = f"{files[0]}: file: got no row, expected at least one. Take it anew from its source."
            raise DataError(msg)
        return found

    def _splits(self) -> list[str]:
        return list(self._layout.splits) if self._layout else sorted(path.stem for path in self.folder.glob("*.jsonl"))

    def _patterns(self, split: str) -> tuple[str, ...]:
        wanted = self._layout.splits.get(split, ()) if self._layout else (OWN_SPLITS.format(split=split),)
        return tuple(pattern.format(config=self._config) for pattern in wanted)

    def _files(self, split: str) -> list[Path]:
        found = (sorted(self.folder.glob(pattern)) for pattern in self._patterns(split))
        return next(filter(None, found), [])

    def _expected(self, split: str) -> str:
        return " or ".join(self._patterns(split)) or "no file of this data set holds it"


def hub_rows(directory: Path | None, dataset: str | None, config: str | None) -> HubRows | None:
    """Return what reads a data set from a directory, None where the directory does not have it: then it is the hub's.

    A folder named as the data set (`tau/commonsense_qa/`, with a folder for the configuration where there is one) holds the hub's own
    rows, a `SPLIT.jsonl` each, of any data set; else `LAYOUTS` says where the files of its authors lie.

    Args:
        directory: of `--kick-data`, None where none was given.
        dataset: its id on the hub.
        config: of it.
    """
    if directory is None or not dataset:
        return None
    own = directory / dataset / (config or "")
    if own.is_dir() and any(own.glob("*.jsonl")):
        return HubRows(dataset, own, config or "", None)
    layout = LAYOUTS.get(dataset)
    if layout is None or (layout.configs and config not in layout.configs) or not (directory / layout.folder).is_dir():
        return None
    return HubRows(dataset, directory / layout.folder, config or "", layout)


def _as_they_are(path: Path) -> Iterator[dict[str, Any]]:
    yield from (dict(line.values) for line in lines_of(path))
