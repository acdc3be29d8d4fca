"""What a reader must know of a judge's scores: by how much they move when it is asked again, and how many are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kick.report.numbers import count, fraction

if TYPE_CHECKING:
    from collections.abc import Mapping

NOISE = "noise: standard deviation of a judge's mean score between times of asking"
_REPEATS, _UNREAD = "judge_repeats", "unparsable_"


def judged_text(score: Mapping[str, Any]) -> str:
    """Return what stands below the row of a probe that a judge scored: each score with its noise, and what is missing; else "".

    Args:
        score: `ProbeScore.plain()`.
    """
    if not _times(score):
        return ""
    again = _times(score) > 1
    shown = [f"{name} {fraction(score['metrics'][name])}{f' ({_noise(score, name)})' if again else ''}" for name in _names(score)]
    asked = f"asked {_often(score)}" if again else "asked once, so its noise is not known"
    return "; ".join(filter(None, (", ".join(shown), asked, _missing(score))))


def judged_lines(score: Mapping[str, Any], metric: str) -> list[str]:
    """Return what stands below a verdict on a judge's score: its noise with what that is, and what is missing.

    Args:
        score: `ProbeScore.plain()`.
        metric: what the verdict is about; nothing is said of one that no judge gave.
    """
    if not _times(score) or metric not in _names(score):
        return []
    each = score["metrics"].get(f"{metric}_sd_each")
    if each is None:
        said = "noise not known: --kick-judge-repeats K asks the judge K times"
    else:
        said = f"noise {fraction(score['metrics'][f'{metric}_noise'])}, the standard deviation of this mean over the {_often(score)} "
        said += f"that the judge was asked; of one answer {fraction(each)}"
    missing = _missing(score)
    return [said, *([missing] if missing else [])]


def _times(score: Mapping[str, Any]) -> int:
    """Return how often the judge was asked the same, 0 where there was none."""
    return int(score["work"].get(_REPEATS, 0))


def _often(score: Mapping[str, Any]) -> str:
    return f"{_times(score)} times"


def _names(score: Mapping[str, Any]) -> list[str]:
    """Return the metrics that a judge gave."""
    names = (name.removeprefix(_UNREAD) for name in score["work"] if name.startswith(_UNREAD))
    return [name for name in names if name in score["metrics"]]


def _noise(score: Mapping[str, Any], name: str) -> str:
    """Return the noise of a score; none was found where no answer could be read twice."""
    noise = score["metrics"].get(f"{name}_noise")
    return "noise not known" if noise is None else f"noise {fraction(noise)}"


def _missing(score: Mapping[str, Any]) -> str:
    """Return how many examples are left out, and how many answers of the judge said no number; "" where all did."""
    work = score["work"]
    left_out, unread = int(work["judge_missing"]), int(work["judge_unparsable"])
    if not unread:
        return ""
    answers = f"{count(unread)} answer{'' if unread == 1 else 's'} of the judge without a number"
    return f"{count(left_out)} of {count(score['n'] + left_out)} not rated, {answers}"
