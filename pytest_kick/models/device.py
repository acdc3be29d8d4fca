"""Whether this torch and this machine have a device."""

from __future__ import annotations

import torch

from pytest_kick.errors import UsageError


def check_device(name: str) -> None:
    """Check that a device is there, before a model is loaded for it.

    Args:
        name: kind and, after a colon, index: `cpu`, `cuda`, `cuda:0`, `mps`, `xpu:1`.

    Raises:
        UsageError: this build of torch does not know the kind, or finds fewer of it.
    """
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return
    found = torch.get_device_module(kind).device_count()
    if int(index or 0) >= found:
        expected = f"one of those that torch {torch.__version__} finds here: cpu" + "".join(f", {kind}:{i}" for i in range(found))
        msg = f"--kick-device: device: got {name!r}, expected {expected}. Name another, or install a torch built for it."
        raise UsageError(msg)
