"""How an answer in words is scored: normalised, matched on word boundaries, by F1; and what knowing nothing would score.

An empty answer is wrong everywhere.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_LEADING_ARTICLE = re.compile(r"^(a|an|the) ")
_DROPPED = str.maketrans("", "", string.punctuation)
_POINT, _PLUS, _SHARP = "\ue000", "\ue001", "\ue002"  # private characters for marks that change a word's meaning: they stay
_MARKS = re.compile(rf"[^\w\s{_POINT}{_PLUS}{_SHARP}]|_")
_DIVIDED = re.compile(r"\d+(?:[.,]\d+)+")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_LETTER = re.compile(r"(?<!\w)([^\W\d_])([+#]+)")
SHORTEST_WITHOUT_ARTICLE = 4  # letters: "the who" may not be found in every question that a model goes on to ask
_FUNCTION_WORDS = """
am are as at be been but by did do does for from had has have he her him his how i if in into is it its me my no nor not of off on or
our out over she so than that their them then there these they this those to under up us was we were what when where which who whom
whose why will with yes you your and
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that stand in almost any English sentence: as a gold answer (`Up`, `It`, a country code such as `is`), one must be all there is."""
GRAM = 4


def squad_normalised(text: str) -> str:
    """Return a text in lower case without punctuation, articles and extra white space.

    Source: Rajpurkar et al. 2016, the evaluation script of SQuAD 1.1.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_DROPPED)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> bool:
    """Return whether a prediction equals one of the gold answers after normalisation; an empty one equals none."""
    found = squad_normalised(prediction)
    return bool(found) and any(found == squad_normalised(gold) for gold in golds)


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the largest F1 of words over the gold answers, 0 for an empty prediction."""
    return max(_f1(squad_normalised(prediction).split(), squad_normalised(gold).split()) for gold in golds)


def _f1(found: Sequence[str], gold: Sequence[str]) -> float:
    common = sum((Counter(found) & Counter(gold)).values())
    return 2 * common / (len(found) + len(gold)) if common else 0.0


def stands_in(golds: Sequence[str], text: str) -> bool:
    """Return whether one of the gold answers stands in a text, on word boundaries.

    Case, accents and punctuation do not matter, nor whether punctuation divides words (`AC/DC`, `acdc`, `ac dc`). An article that
    opens a gold answer need not stand there, unless what is left is shorter than four letters. A number is one word, with its thousands
    (`1,000` is `1000`) and its fraction (`8` does not stand in `8.5`), and so is a letter with its marks (`C` is not `C++`). A gold answer
    that is one function word must be the whole text.
    """
    spaced = [f" {form} " for form in _forms(text)]
    forms = [form for gold in golds for form in _gold_forms(gold)]
    return any(words == f" {form} " if form in FUNCTION_WORDS else f" {form} " in words for form in forms for words in spaced)


def is_matchable(gold: str) -> bool:
    """Return whether anything is left of a gold answer to be found in a text."""
    return bool(_gold_forms(gold)) and bool(squad_normalised(gold))


def _forms(text: str) -> tuple[str, ...]:
    """Return a text without punctuation, once deleted and once as spaces; see `stands_in` for what is left in both."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))
    plain = _LETTER.sub(lambda found: f"{found[1]}{found[2].replace('+', _PLUS).replace('#', _SHARP)} ", _DIVIDED.sub(_number, plain))
    return tuple(dict.fromkeys(" ".join(_MARKS.sub(mark, plain).split()) for mark in ("", " ")))


def _number(found: re.Match[str]) -> str:
    """Return digits with points or commas between them as one number, or as words where they are a date, a version or a list."""
    text = found[0]
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "").replace(".", _POINT)
    parts = re.split("[.,]", text)
    return (_POINT if len(parts) == 2 else " ").join(parts)  # noqa: PLR2004


def _gold_forms(gold: str) -> tuple[str, ...]:
    whole = [form for form in _forms(gold) if form]
    bare = [_LEADING_ARTICLE.sub("", form) for form in whole]
    return tuple(dict.fromkeys([*(form for form in bare if len(form) >= SHORTEST_WITHOUT_ARTICLE), *whole]))


def answer_hash(text: str) -> int:
    """Return a number for a normalised answer, so that a change from one wrong answer to another is seen; -1 for an empty one."""
    found = squad_normalised(text)
    return int.from_bytes(hashlib.sha256(found.encode()).digest()[:4], "big") >> 1 if found else -1


def shuffled_score(golds: Sequence[Sequence[str]], score: Callable[[str, Sequence[str]], float], seed: int) -> float:
    """Return what the gold answers of other questions would score: the mean over questions, each given another one's first gold."""
    if len(golds) <= 1:
        return 0.0
    order = np.random.default_rng(seed).permutation(len(golds))
    # Each is given the answer of the next one in a random circle: never its own.
    pairs = zip(order, np.roll(order, 1), strict=True)
    return float(np.mean([score(golds[other][0], golds[own]) for own, other in pairs]))


def diversity(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return how varied each of n texts is, by words in lower case.

    Returns:
        `distinct_words`: share of different ones among its words; `distinct_4grams`: of different runs of four words among all runs,
        1 where there are fewer than four words; `words`: how many there are. All `(n,)` float32, 0 for an empty text.
    """
    split = [text.casefold().split() for text in texts]
    runs = [[tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)] for words in split]
    return {
        "distinct_words": np.asarray([len(set(words)) / len(words) if words else 0.0 for words in split], np.float32),
        "distinct_4grams": np.asarray(
            [len(set(grams)) / len(grams) if grams else float(bool(words)) for grams, words in zip(runs, split, strict=True)], np.float32
        ),
        "words": np.asarray([len(words) for words in split], np.float32),
    }
