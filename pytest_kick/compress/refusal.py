"""Say in one line that a step did not achieve what was asked, and on which matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.spec import CompressionStep

_SHOWN = 3


def refuse(step: CompressionStep, names: Sequence[str], got: str, expected: str, advice: str) -> None:
    """Raise where there are names.

    Args:
        step: what was asked.
        names: matrices that are wrong; none is fine.
        got: what was found, such as `got NaN or infinite weights`.
        expected: the rule.
        advice: what to do, without its full stop.

    Raises:
        CompressionError: there are names; shows the first of them.
    """
    if names:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        msg = f"{step.id}: {shown}: {got}, expected {expected}. {advice}."
        raise CompressionError(msg)


def refuse_faults(step: CompressionStep, found: Mapping[str, str], faults: Mapping[str, tuple[str, str, str]]) -> None:
    """Raise for the first kind of fault that some matrix has.

    Args:
        step: what was asked.
        found: name of a matrix -> its fault, a key of `faults`, or "".
        faults: fault -> what was found, the rule, what to do; in the order in which they are told.

    Raises:
        CompressionError: there is one; names the matrices.
    """
    for fault, said in faults.items():
        refuse(step, [name for name, its in found.items() if its == fault], *said)
