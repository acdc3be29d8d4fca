"""Import the libraries of extras when they are first needed, without what they and torch say of other machines."""

from __future__ import annotations

import functools
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@functools.cache
def bitsandbytes() -> Any:  # noqa: ANN401 - it ships no types
    """Return `bitsandbytes.functional`."""
    with _quietly("bitsandbytes"):
        import bitsandbytes.functional as library  # noqa: PLC0415 - an extra, and slow to import
    return library


@functools.cache
def bitsandbytes_layers() -> Any:  # noqa: ANN401 - as above
    """Return `bitsandbytes.nn`."""
    with _quietly("bitsandbytes"):
        import bitsandbytes.nn as library  # noqa: PLC0415 - as above
    logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)  # at every call, that inputs go through float16
    return library


@functools.cache
def hqq_quantizer() -> Any:  # noqa: ANN401 - as above
    """Return `hqq.core.quantize.Quantizer`."""
    with _quietly("hqq"):
        from hqq.core.quantize import Quantizer  # noqa: PLC0415 - as above
    return Quantizer


@contextmanager
def _quietly(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own modules, which theirs import
            yield
    finally:
        logger.setLevel(level)
