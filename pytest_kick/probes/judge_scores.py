"""What a judge is asked and what it says: prompts, the numbers read from its answers, and how much they move when it is asked again."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RATING = re.compile(r"\[\[\s*(\d{1,4}(?:\.\d{1,4})?)\s*(?:/\s*(\d{1,4})\s*)?\]\]")
_CHOICE = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_JOINED = re.compile(r"[^\w\[\]\n]*(?:/|\b(?:out\s+)?of\b(?:\s+\w+){0,4})[^\w\[\]\n]*", re.IGNORECASE)
"""Between two ratings: `[[7]] out of [[10]]` is one, and does not say 10."""
_THOUGHT = re.compile(
    r"\A(?:\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z))+"  # cut off or not, it opens the reply
    r"|<think(?:ing)?>(?:(?!<think(?:ing)?>).)*?</think(?:ing)?>",  # elsewhere a tag without an end is a quotation
    re.DOTALL,
)
_WON = {"A": 1.0, "B": 0.0, "C": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """Ask for a number.

    Attributes:
        prompt: the question, which says that the number stands in double brackets: `[[5]]`.
        system: what stands before it as the system's turn, "" for none.
        low: the lowest number that counts.
        high: the highest.
    """

    prompt: str
    system: str = ""
    low: float = 1.0
    high: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Ask which of two answers is better, in both orders.

    Attributes:
        prompt: shows the answer in question as A, the other as B, and asks for `[[A]]`, `[[B]]` or `[[C]]`.
        swapped: the same with the answer in question as B.
        system: what stands before either as the system's turn, "" for none.
    """

    prompt: str
    swapped: str
    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Hold what a judge says of one answer, asked K times.

    Attributes:
        scores: of each time; None where no number could be read.
        texts: the judge's raw answers: for the cache and for a person, never for a report. A comparison holds two for each time.
    """

    scores: tuple[float | None, ...]
    texts: tuple[str, ...]

    @property
    def score(self) -> float | None:
        """Return the mean of what could be read, None where nothing could."""
        read = [score for score in self.scores if score is not None]
        return fmean(read) if read else None

    @property
    def unparsable(self) -> int:
        """Return how many times nothing could be read."""
        return sum(score is None for score in self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Hold how much a judge's numbers move when it is asked the same again.

    Attributes:
        difference: mean absolute difference between two judgements of one answer.
        sd: standard deviation of the judgements of one answer, pooled over the answers.
        mean_sd: standard deviation of the mean over all answers, from one time to the next.
        n: answers with at least two judgements.
    """

    difference: float
    sd: float
    mean_sd: float
    n: int


def rating_in(text: str, low: float, high: float) -> float | None:
    """Return the last number in double brackets, None where there is none, it is off the scale, of another one or one of several.

    The last, since a judge may quote its instructions or the answer before it decides; single brackets may be references. What a
    reasoning model thinks aloud is no verdict. Different numbers that `/` or `out of` join are several.

    Args:
        text: the judge's answer.
        low: the lowest number that counts.
        high: the highest.
    """
    text = _THOUGHT.sub("", text)
    found = list(_RATING.finditer(text))
    if not found:
        return None
    value, of = found[-1].groups()
    for before, after in zip(found[-2::-1], found[::-1], strict=False):
        if not _JOINED.fullmatch(text, before.end(), after.start()):
            break
        if float(before[1]) != float(value):
            return None
    return float(value) if low <= float(value) <= high and (not of or float(of) == high) else None


def choice_in(text: str) -> float | None:
    """Return 1 where the judge prefers answer A, 0 where B, 0.5 for a tie, None where it says none of these."""
    found = _CHOICE.findall(_THOUGHT.sub("", text))
    return _WON[found[-1]] if found else None


def preference(text: str, swapped: str) -> float | None:
    """Return 1 where a judge prefers an answer in both orders, 0 where it prefers the other one in both, else 0.5: a tie.

    Args:
        text: the judge's answer where the one in question was A.
        swapped: where it was B.

    Returns:
        None where either could not be read.

    Source: Zheng et al. 2023, Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, section 3.4 (the conservative approach).
    """
    first, second = choice_in(text), choice_in(swapped)
    if first is None or second is None:
        return None
    return first if first == 1 - second else 0.5


def noise_of(judgements: Sequence[Judgement]) -> Noise | None:
    """Return a judge's noise, None where no answer was judged twice.

    `mean_sd` looks at the answers that were judged every time.
    """
    rows = [np.asarray([score for score in item.scores if score is not None]) for item in judgements]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return None
    apart = [float(np.abs(row[:, None] - row[None]).sum()) / (len(row) * (len(row) - 1)) for row in rows]
    pooled = sum(float(((row - row.mean()) ** 2).sum()) for row in rows) / sum(len(row) - 1 for row in rows)
    most = max(map(len, rows))
    means = np.mean([row for row in rows if len(row) == most], axis=0)
    return Noise(difference=fmean(apart), sd=math.sqrt(pooled), mean_sd=float(means.std(ddof=1)), n=len(rows))


def noise_metrics(metric: str, judgements: Iterable[Judgement]) -> dict[str, float]:
    """Return a judge's noise as a probe reports it beside a mean; nothing where no answer was judged twice.

    Args:
        metric: name of the mean.
        judgements: all that it is the mean of, those that needed no judge too: they hold it still.

    Returns:
        `<metric>_noise`: standard deviation of the mean from one time of judging to the next. `<metric>_noise_each` and
        `<metric>_sd_each`: by how much the score of one answer moves, of those that the judge was asked about.
    """
    every = list(judgements)
    asked, whole = noise_of([judgement for judgement in every if judgement.texts]), noise_of(every)
    if asked is None or whole is None:
        return {}
    return {f"{metric}_noise": whole.mean_sd, f"{metric}_noise_each": asked.difference, f"{metric}_sd_each": asked.sd}
