"""Keep third-party libraries from writing to the terminal while a model is loaded or converted."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

from transformers.utils import logging as transformers_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

# Importing torchao (transformers does so on the first load) logs these although nothing is wrong on a CPU: libraries built for
# GPUs are not loadable, there is no triton, and two of its enumerations are registered in a way that torch no longer needs.
_HARMLESS = {
    "torchao": "Failed to load",
    "torchao.kernel.intmm": "Detected no triton",
    "torch.utils._pytree": "is an Enum subclass and is now natively supported",
}


def _drop(fragment: str) -> logging.Filter:
    class Drop(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return fragment not in record.getMessage()

    return Drop(fragment)


for _logger, _fragment in _HARMLESS.items():
    logging.getLogger(_logger).addFilter(_drop(_fragment))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' log, its progress bars and all warnings inside the block; restore them afterwards."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
