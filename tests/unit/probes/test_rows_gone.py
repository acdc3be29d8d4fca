"""Facts whose gold answer lost its vocabulary row are marked: the logit of such a row is its bias, whatever the model knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_scorer import decoder, encoder, facts, plain_answer, span_model

from pytest_kick.probes.facts import FactsProbe


@pytest.mark.parametrize("make", [decoder, encoder, span_model])
def test_facts_whose_gold_row_is_zero_are_marked(make) -> None:  # noqa: ANN001 - one of three functions
    """A fact is marked exactly when the head's row of one of its gold tokens is zero throughout."""
    model, fact_set = make(), facts()
    scorable = set(FactsProbe(fact_set).run(model).examples.ids)
    target = next(fact for fact in fact_set.facts if fact.id in scorable)
    gone = plain_answer(model, target.answer, "")[-1]
    with torch.no_grad():
        model.touch([model.untie_head_()])
        model.module.get_output_embeddings().weight[gone] = 0.0
    score = FactsProbe(fact_set).run(model)
    marked = dict(zip(score.examples.ids, score.examples.arrays["gold_row_gone"], strict=True))
    assert marked[target.id]
    same = {fact.id for fact in fact_set.facts if fact.answer == target.answer}
    assert {name for name, value in marked.items() if value} >= same & set(marked)
    assert not np.all(score.examples.arrays["gold_row_gone"])


def test_a_whole_head_marks_nothing() -> None:
    """Without a zero row there is no such array, so stored runs of other cells carry nothing for it."""
    assert "gold_row_gone" not in FactsProbe(facts()).run(decoder()).examples.arrays
