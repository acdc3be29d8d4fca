"""Give lm-eval's tasks the rows of a directory of data in place of the hub's."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lm_eval.api.task import ConfigurableTask

from pytest_kick.data_sets.hub_rows import hub_rows
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kick.data_sets.hub_rows import HubRows

datasets: Any = import_module("datasets")  # ships no types


class LocalSplits(dict[str, Any]):
    """Hold the splits of a data set as `datasets` has them, each read at the first use."""

    def __init__(self, where: str, found: HubRows) -> None:
        """Take what reads the rows; `where` opens every error."""
        super().__init__()
        self._where, self._found = where, found

    def __missing__(self, split: str) -> Any:  # noqa: ANN401 - lm-eval and datasets ship no types
        """Read a split.

        Raises:
            DataError: it is not there, or malformed.
        """
        try:
            self[split] = datasets.Dataset.from_list(self._found.rows(split))
        except DataError as error:
            msg = f"{self._where}: {error}"
            raise DataError(msg) from error
        return self[split]


@contextlib.contextmanager
def brought(where: str, directory: Path | None, shots: int) -> Iterator[None]:
    """Let tasks that are loaded meanwhile take their rows from a directory, where it has their data set.

    lm-eval lists the examples of few-shot prompts whenever it loads a task: here only where there will be shots, so that a directory
    without a training split can be asked without any.

    Args:
        where: opens every error.
        directory: of `--kick-data`, None where none was given.
        shots: that will be asked for; below 0 for each task's own number.
    """
    own_download, own_fewshot = ConfigurableTask.download, ConfigurableTask.fewshot_docs

    def download(task: Any, dataset_kwargs: Any = None, **options: Any) -> None:  # noqa: ANN401 - lm-eval ships no types
        found = hub_rows(directory, task.DATASET_PATH, task.DATASET_NAME)
        if found is None:
            own_download(task, dataset_kwargs, **options)
        else:
            task.dataset = LocalSplits(where, found)

    def fewshot_docs(task: Any) -> Any:  # noqa: ANN401
        wanted = shots if shots >= 0 else task.get_config("num_fewshot") or 0
        return own_fewshot(task) if wanted or not isinstance(task.dataset, LocalSplits) else None

    ConfigurableTask.download, ConfigurableTask.fewshot_docs = download, fewshot_docs
    try:
        yield
    finally:
        ConfigurableTask.download, ConfigurableTask.fewshot_docs = own_download, own_fewshot
