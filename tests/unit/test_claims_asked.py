"""Claims about other probes: perplexity beside knowledge, flips beside scores, and where answers flip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_measurements import make_examples, make_score

from pytest_kick.claims import books, displaced
from pytest_kick.claims.asked import FLIPS, MARGINS, decide_asked
from pytest_kick.claims.finding import STATEMENTS
from pytest_kick.claims.fluency import FLUENT
from pytest_kick.claims.probed import Probed
from pytest_kick.infos import MeanInfo
from pytest_kick.spec import CompressionSpec, CompressionStep

N = 400
RNG = np.random.default_rng(3)
DENSE = np.arange(N) < 320
NATS = MeanInfo(name="nats_per_token", kind="loss")
BASE = RNG.uniform(3.0, 4.0, 64)


def probed(score: Any, level: float = 0.0) -> Probed:
    """Return the score of a cell at a level of one method and scope; 0 is the dense model."""
    steps = (CompressionStep(method="l1_global", scope="overall", level=level),) if level else ()
    return Probed(model="m", family="decoder", compression=CompressionSpec(steps=steps), dtype="float32", score=score)


def facts(right: np.ndarray, level: float = 0.0, **arrays: Any) -> Probed:
    """Return which facts are right in a cell."""
    return probed(make_score(make_examples(right, **arrays)), level)


def text(nats: np.ndarray, level: float = 0.0) -> Probed:
    """Return the perplexity of a cell."""
    examples = make_examples(np.ones(len(nats), bool), nats_per_token=nats)
    return probed(make_score(examples, probe="perplexity", metric="nats_per_token", means=(NATS,)), level)


def test_every_statement_is_listed() -> None:
    """What a claim says is said once: the table of findings has the same words."""
    said = (FLUENT, FLIPS, MARGINS, books.OPEN_BOOK, books.LONGER, displaced.DISPLACED)
    assert {claim: STATEMENTS[claim] for claim, _ in said} == dict(said)


@pytest.mark.parametrize(("kept", "word"), [(200, "holds"), (318, "does not hold")])
def test_knowledge_at_a_perplexity_ratio(kept: int, word: str) -> None:
    """C6: retention is read off where the ratio passes 1.1, between the levels on both sides, here half way."""
    scores = {
        "facts": [facts(DENSE), facts(np.arange(N) < kept, 0.1), facts(np.arange(N) < kept, 0.2)],
        "perplexity": [text(BASE), text(BASE + np.log(1.05), 0.1), text(BASE + np.log(1.15), 0.2)],
    }
    (found,) = [finding for finding in decide_asked(scores) if finding.claim == "C6"]
    assert (found.word, found.arm) == (word, "l1_global")
    assert found.estimate == pytest.approx((kept / N - 0.05) / (0.8 - 0.05), abs=1e-3)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.estimate <= found.high


def test_several_texts_are_not_mixed() -> None:
    """C6: a cell may have read another text as well, with windows of its own; the text that most cells have read decides."""
    other = [replace(cell, score=replace(cell.score, probe="perplexity:other")) for cell in (text(BASE[:20]), text(BASE[:20] + 9, 0.2))]
    scores = {
        "facts": [facts(DENSE), facts(DENSE, 0.1), facts(DENSE, 0.2)],
        "perplexity": [*other, text(BASE), text(BASE + np.log(1.05), 0.1), text(BASE + np.log(1.15), 0.2)],
    }
    alone = {**scores, "perplexity": scores["perplexity"][2:]}
    assert decide_asked(scores) == decide_asked(alone)


def test_a_grid_that_stays_fluent_says_nothing() -> None:
    """C6: where no level reaches the ratio there is nothing to read off."""
    scores = {"facts": [facts(DENSE), facts(DENSE, 0.1)], "perplexity": [text(BASE), text(BASE + 0.01, 0.1)]}
    (found,) = [finding for finding in decide_asked(scores) if finding.claim == "C6"]
    assert (found.word, found.estimate) == ("not applicable", None)


def test_flips_where_the_score_stands() -> None:
    """C13: as many gained as lost leave the score alone, and holds; identical answers are no cell to judge; a drop is none either."""
    swapped = DENSE.copy()
    swapped[:30], swapped[-30:] = False, True
    words = {}
    for name, now in {"swapped": swapped, "worse": np.arange(N) < 100, "same": DENSE}.items():
        margin = {"margin": RNG.normal(size=N).astype(np.float32)} if name != "same" else {}
        cells = [facts(DENSE), facts(now, 0.1, **margin)]
        (found,) = [finding for finding in decide_asked({"facts": cells}) if finding.claim == "C13"]
        words[name] = found.word
    assert words == {"swapped": "holds", "worse": "not applicable", "same": "not applicable"}


@pytest.mark.parametrize(("noise", "word"), [({}, "holds"), ({"flips_p1": 0.25}, "does not hold"), ({"flips_p1": 0.15}, "undecided")])
def test_flips_have_to_exceed_those_between_dense_runs(noise: dict[str, float], word: str) -> None:
    """C13: the same 15% of flips hold against what is assumed of dense runs, and not where their own runs differ as much."""
    swapped = DENSE.copy()
    swapped[:30], swapped[-30:] = False, True
    cells = [replace(facts(DENSE), noise=noise), facts(swapped, 0.1, margin=RNG.normal(size=N).astype(np.float32))]
    (found,) = [finding for finding in decide_asked({"facts": cells}) if finding.claim == "C13"]
    assert found.word == word
    assert ("(measured)" if noise else "(assumed)") in found.detail


@pytest.mark.parametrize(("near", "word"), [(True, "holds"), (False, "does not hold")])
def test_flips_and_the_dense_margin(near: bool, word: str) -> None:
    """C14: answers that flip lie near 0 in the dense model, on either side, or they do not."""
    margin = np.where(DENSE, 1.0, -1.0) * RNG.uniform(1.0, 3.0, N)
    flipping = np.arange(N) % 10 == 0
    margin = np.where(flipping, margin * (0.1 if near else 10.0), margin).astype(np.float32)
    cells = [facts(DENSE, margin=margin), facts(DENSE ^ flipping, 0.1)]
    (found,) = [finding for finding in decide_asked({"facts": cells}) if finding.claim == "C14"]
    assert found.word == word
    assert found.unit == "AUC"


def test_too_few_flips_say_nothing() -> None:
    """C14: under ten flips nothing is said."""
    cells = [facts(DENSE), facts(DENSE ^ (np.arange(N) < 4), 0.1)]
    (found,) = [finding for finding in decide_asked({"facts": cells}) if finding.claim == "C14"]
    assert (found.word, found.n_cells) == ("not applicable", 0)
