"""How answers are scored, against plain code written from the definitions, and against what LLM-KICK's code does wrong."""

from __future__ import annotations

import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kick.probes.answers import (
    answer_hash,
    diversity,
    exact_match,
    f1,
    is_matchable,
    shuffled_score,
    squad_normalised,
    stands_in,
)

TEXTS = st.text(alphabet="abk A.,!'éE the", max_size=20)


def plain_words(text: str) -> list[str]:
    """Return SQuAD's words of a text, one character and one word at a time."""
    kept = "".join(char for char in text.lower() if char not in string.punctuation)
    return [word for word in kept.split() if word not in {"a", "an", "the"}]


def plain_f1(found: list[str], gold: list[str]) -> float:
    """Return F1 as the harmonic mean of precision and recall of words."""
    left, common = Counter(gold), 0
    for word in found:
        if left[word]:
            left[word] -= 1
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(gold)
    return 2 * precision * recall / (precision + recall)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_exact_match_and_f1_are_squads(text: str, golds: list[str]) -> None:
    """Both equal plain code, the best gold answer counts, and whoever matches exactly has F1 1."""
    found = plain_words(text)
    assert squad_normalised(text).split() == found
    assert exact_match(text, golds) == (bool(found) and any(found == plain_words(gold) for gold in golds))
    assert f1(text, golds) == pytest.approx(max(plain_f1(found, plain_words(gold)) for gold in golds))
    assert not exact_match(text, golds) or f1(text, golds) == 1.0


@pytest.mark.parametrize("text", ["", "  ", ".", "The", "\t!"])
def test_an_empty_answer_is_wrong(text: str) -> None:
    """LLM-KICK's exact match held the prediction inside of the gold answer: nothing was always right."""
    for golds in (["Paris"], ["The"], ["."], [""]):
        assert not exact_match(text, golds)
        assert f1(text, golds) == 0.0
    assert not stands_in(["Paris"], text)
    assert answer_hash(text) == -1


@pytest.mark.parametrize(
    ("gold", "text", "right"),
    [
        ("art", "A party.", False),
        ("art", "Modern art!", True),
        ("niger", "Nigeria", False),
        ("new york", "It is New York.", True),
        ("new york", "Newyork", False),
        ("eden", "Sweden and Denmark", False),
        ("ac/dc", "AC/DC", True),
        ("ac/dc", "the band ACDC", True),
        ("spider-man", "spider man", True),
        ("o'brien", "Conan O'Brien", True),
        ("pele", "Pelé", True),
        ("the beatles", "Beatles", True),
        ("the who", "the man who sang", False),
        ("the who", "It was The Who.", True),
        ("1984", "in 1984, he", True),
        ("1984", "in 19845", False),
        ("!!!", "anything", False),
        ("1", "1,000 men", False),
        ("1000", "1,000 men", True),
        ("1,000", "about 1000 men", True),
        ("1,000,000.5", "1000000.5", True),
        ("000", "1,000 men", False),
        ("8", "8.5 miles", False),
        ("5", "8.5 miles", False),
        ("8.5", "8.5 miles", True),
        ("8.5", "8,5 miles", True),
        ("85", "8.5 miles", False),
        ("8", "It was 8. Then", True),
        ("8", "8, 9 and 10", True),
        ("1990", "on 12.5.1990", True),
        ("4.50 from Paddington", "4.50 From Paddington", True),
        ("C", "C++", False),
        ("C++", "C", False),
        ("C++", "It is C++.", True),
        ("C++", "C++11", True),
        ("C#", "C++", False),
        ("C", "vitamin C", True),
        ("Up", "Up", True),
        ("Up", "up.", True),
        ("Up", "He grew up", False),
        ("IS", "The answer is no", False),
        ("up in smoke", "Up in Smoke", True),
    ],
)
def test_a_gold_answer_stands_in_a_text_on_word_boundaries(gold: str, text: str, right: bool) -> None:
    """LLM-KICK removed all spaces and looked inside of words; punctuation, case and accents do not matter."""
    assert stands_in([gold], text) is right
    assert stands_in(["elsewhere", gold], text) is right


@given(
    st.lists(st.sampled_from(["ka", "lo", "mi", "a", "the"]), max_size=6),
    st.lists(st.sampled_from(["ka", "lo", "mi"]), min_size=1, max_size=2),
)
def test_words_stand_in_words_where_they_follow_each_other(text: list[str], gold: list[str]) -> None:
    """On plain words it is the search for a run of words."""
    runs = [text[i : i + len(gold)] for i in range(len(text))]
    assert stands_in([" ".join(gold)], " ".join(text)) == (gold in runs)


def test_answers_that_nothing_can_match_are_seen() -> None:
    """A gold answer without a word, or of an article alone, cannot be scored."""
    assert [is_matchable(gold) for gold in ("Paris", "!!!", "A", "", "the who")] == [True, False, False, False, True]


def test_another_wrong_answer_has_another_number() -> None:
    """The number is that of the normalised text, not negative, and 32 bits wide."""
    assert answer_hash("The Paris!") == answer_hash("paris") >= 0
    assert answer_hash("Paris") != answer_hash("London")
    assert np.int32(answer_hash("Paris")) == answer_hash("Paris")


def test_shuffled_gold_gives_no_question_its_own() -> None:
    """The score is the mean over all questions of another one's first gold answer, the same for a seed."""
    golds = [[f"city {n}", "capital"] for n in range(20)]
    assert shuffled_score(golds, lambda text, own: float(exact_match(text, own)), 0) == 0.0
    assert shuffled_score([["same"]] * 5, lambda text, own: float(exact_match(text, own)), 0) == 1.0
    seen: list[str] = []
    shuffled_score(golds, lambda text, own: float(seen.append(text) or text in own), 3)
    assert sorted(seen) == sorted(gold[0] for gold in golds)
    assert shuffled_score([["alone"]], lambda text, own: float(text in own), 0) == 0.0


def test_diversity_is_the_share_of_different_words_and_runs() -> None:
    """By hand: an empty text has none, a loop has few, fewer than four words have no run that could repeat."""
    found = diversity(["", "a b A c", "x x x x x x", "one two"])
    np.testing.assert_allclose(found["distinct_words"], [0, 3 / 4, 1 / 6, 1])
    np.testing.assert_allclose(found["distinct_4grams"], [0, 1, 1 / 3, 1])
    assert found["words"].tolist() == [0, 4, 6, 2]
