"""Make the probe `lm_eval`, where lm-eval is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import ProbeError

if TYPE_CHECKING:
    from pytest_kick.probes.context import ProbeContext


def make(context: ProbeContext) -> Any:  # noqa: ANN401 - the class lies in a module that imports lm-eval
    """Return the probe for a task.

    Raises:
        ProbeError: lm-eval is not installed.
    """
    if find_spec("lm_eval") is None:
        where = f"lm_eval:{context.spec.param('task')}"
        msg = f"{where}: extra: got no module 'lm_eval', expected it for this probe. pip install 'pytest-kick[lm-eval]'"
        raise ProbeError(msg)
    return import_module("pytest_kick.probes.lm_eval_probe").LmEvalProbe(context)
