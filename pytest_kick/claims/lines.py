"""Findings as a table for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_kick.claims.finding import number, spelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.claims.finding import Finding

_GAP = "  "
_CUT = ".."
_LEAST_NAME = 12
_LEAST_DETAIL = 24


def lines(findings: Sequence[Finding], width: int) -> list[str]:
    """Return the table: a line for each claim, and one for each finding below it.

    Args:
        findings: as `decide` returns them.
        width: of the terminal, in characters; no line is longer. The detail is cut first, then names of models.
    """
    rows = [(finding, _columns(finding, findings)) for finding in findings]
    if not rows:
        return []
    widths = [max(len(columns[i]) for _, columns in rows) for i in range(len(rows[0][1]))]
    rest = width - len(_GAP) - sum(size + len(_GAP) for size in widths)
    if rest < 0:
        widths[0] = max(min(widths[0], _LEAST_NAME), widths[0] + rest)
    shown: list[str] = []
    claim = ""
    for finding, columns in rows:
        if finding.claim != claim:
            claim = finding.claim
            shown.append(_clip(f"{claim}  {finding.statement}", width))
        padded = [_clip(text, size).ljust(size) for text, size in zip(columns, widths, strict=True)]
        detail = _clip(finding.detail, rest) if rest >= _LEAST_DETAIL else ""
        shown.append(_clip((_GAP + _GAP.join([*padded, detail])).rstrip(), width))
    return shown


def _columns(finding: Finding, findings: Sequence[Finding]) -> tuple[str, str, str, str]:
    """Return model, arm, word and numbers; the dtype joins the model where the same is decided in two."""
    times = Counter((other.claim, other.model, other.arm) for other in findings)
    twice = times[finding.claim, finding.model, finding.arm] > 1
    model = f"{finding.model}/{finding.dtype}" if twice else finding.model
    return model, finding.arm, finding.word, _numbers(finding)


def _numbers(finding: Finding) -> str:
    if finding.estimate is None or finding.low is None or finding.high is None:
        return "-"
    return f"{number(finding.estimate)} {spelled(finding.low, finding.high)}"


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - len(_CUT))] + _CUT[:width]
