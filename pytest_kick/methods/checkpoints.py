"""Weights that were compressed elsewhere."""

from __future__ import annotations

from pytest_kick.infos import MethodInfo

CHECKPOINTS = (
    MethodInfo(
        name="checkpoint",
        level="name",
        target="pytest_kick.compress.checkpoint:checkpoint",
        check="pytest_kick.compress.checkpoint:check_checkpoint",
        summary="the weights of a model directory or GGUF file, compressed or fine-tuned elsewhere",
        params=(("name", ""), ("path", "")),
        paths=("path",),
        brings=True,
    ),
)
