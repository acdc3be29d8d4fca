"""Run code of others beside a model without any effect on what is measured afterwards."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def isolated() -> Iterator[None]:
    """Let registered code draw random numbers, alike each time, and set torch's defaults; both are as before afterwards."""
    python, numpy, dtype, threads = random.getstate(), np.random.get_state(), torch.get_default_dtype(), torch.get_num_threads()  # noqa: NPY002 - the state that others use
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002 - as above
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - as above
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
