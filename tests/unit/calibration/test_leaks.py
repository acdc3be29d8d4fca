from __future__ import annotations

import pytest

from pytest_kick.calibration import find_leaks
from pytest_kick.errors import CalibrationError
from pytest_kick.facts import shipped_facts


def test_words_not_letters() -> None:
    """A name inside another word is no leak; another case, an accent and a line break change nothing."""
    facts = shipped_facts()
    assert find_leaks(["She went from Tirana to Asian markets."], facts).n_facts == 0
    assert find_leaks(["In PARIS they spoke of\nFránce all day."], facts).note.startswith("calibration names subject and answer of")


@pytest.mark.parametrize("text", ["so the capital of France\nis PARIS, she said", "Paris is the capital city of France!"])
def test_each_template_is_refused(text: str) -> None:
    """A fact in the words of any of its templates is refused in one line that quotes it."""
    with pytest.raises(CalibrationError, match="a fact of the probe") as caught:
        find_leaks(["nothing", text], shipped_facts())
    assert "sequence 1" in str(caught.value)
    assert "\n" not in str(caught.value)
