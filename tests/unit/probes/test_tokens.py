"""How facts become token ids, and the float32 head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_scorer import SYLLABLES, decoder, encoder, facts, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.probes.facts import FactsProbe
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.prepare import prepare
from pytest_kick.probes.tokens import Asker, MaskAsker, SentinelAsker


def test_only_tokens_inside_a_word_continue_it() -> None:
    """Pieces of a word and hyphens make it longer; words, punctuation and special tokens do not."""
    model = decoder()
    continues = Asker(model).continues()
    vocabulary = model.tokenizer.get_vocab()
    assert {token for token, number in vocabulary.items() if continues[number]} == {f"##{syllable}" for syllable in SYLLABLES}


def test_free_p1_is_what_greedy_generation_writes() -> None:
    """A fact whose answer is the first generated word is right, one whose answer is only the beginning of that word is wrong."""
    model, asked = decoder(seed=1), facts(48)
    checked = 0
    for fact in asked.facts:
        relation = asked.relations[fact.relation]
        ids = model.prompt_ids(relation.prompt(fact.subject)[0])
        out = model.module.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=None)[0, len(ids) :]
        first, *rest = model.tokenizer.convert_ids_to_tokens(out.tolist())
        if first not in SYLLABLES:
            continue
        pieces = [first]
        for token in rest:
            if not token.startswith("##"):
                break
            pieces.append(token.removeprefix("##"))
        for n in range(1, len(pieces) + 1):
            answer = "".join(pieces[:n])
            space = replace(relation, answers=tuple(sorted({answer, "zizizi"})))
            changed = replace(asked, relations={fact.relation: space}, facts=(replace(fact, answer=answer, aliases=()),))
            score = FactsProbe(changed).run(model)
            assert score.metrics["free_p1"] == float(n == len(pieces) < 8)
            checked += 1
    assert checked >= 3


def test_models_that_cannot_be_asked_are_refused() -> None:
    """An encoder without a mask and an encoder-decoder without sentinels are one-line errors."""
    model = encoder()
    model.tokenizer.mask_token = None
    with pytest.raises(ProbeError, match=r"^probe facts: model 'tiny-encoder': got an encoder without a mask token, expected .*\.$"):
        MaskAsker(model)
    model = span_model()
    model.module.config.decoder_start_token_id = None
    with pytest.raises(ProbeError, match=r"^probe facts: model 'tiny-encoder-decoder': got an encoder-decoder without <extra_id_0> .*\.$"):
        SentinelAsker(model)


def test_a_label_that_begins_another_is_closed() -> None:
    """Even where a template ends with its answer, no candidate is the beginning of another."""
    asked = facts()
    relations = {name: replace(r, templates=(r.templates[0].rstrip(".!"),)) for name, r in asked.relations.items()}
    prepared = prepare(replace(asked, relations=relations), decoder())
    trie = prepared.trie
    ends = trie.paths[prepared.candidates[prepared.candidates >= 0]]
    last = ends[np.arange(len(ends)), (ends < len(trie)).sum(1) - 1]
    assert not np.diff(trie.child_start)[last].any()


def test_logits_are_those_of_the_model_with_what_it_does_around_its_head() -> None:
    """Gemma's soft cap stays, only the asked positions are computed, and the model is left as it was."""
    model = decoder("gemma2")
    ids = torch.tensor([[7, 8, 9, 10], [11, 12, 13, 14]])
    with torch.inference_mode():
        expected = model.module(ids).logits.reshape(8, -1)[[1, 6]]
        found, _ = ScoredHead(model).run(torch.tensor([1, 6]), input_ids=ids)
        assert found.abs().max() <= 3.0
        torch.testing.assert_close(found, expected)
        assert model.module(ids).logits.shape[:2] == (2, 4)


def test_the_head_is_computed_in_float32() -> None:
    """In a bfloat16 model logits keep more digits than bfloat16 has, and follow from the hidden state and the weights as they are."""
    model = decoder()
    model.cast_(torch.bfloat16)
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.inference_mode():
        found, _ = ScoredHead(model).run(torch.tensor([3]), input_ids=ids)
        hidden = model.module.model(ids).last_hidden_state[0, 3].double().numpy()
    weight = model.module.lm_head.weight.double().numpy()
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].numpy(), weight @ hidden, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_leaves_the_precision_of_products_as_it_was(dtype: torch.dtype) -> None:
    """Only a bfloat16 model's head is multiplied as bfloat16; a float32 model's keeps all its digits."""
    model = decoder()
    with torch.no_grad():
        model.module.lm_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    model.cast_(dtype)
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.inference_mode():
        before = torch.backends.mkldnn.matmul.fp32_precision
        found = ScoredHead(model).run(torch.arange(4), input_ids=ids)[0].clone()
        assert torch.backends.mkldnn.matmul.fp32_precision == before
        hidden = model.module.model(ids).last_hidden_state[0].double()
    exact = hidden @ model.module.lm_head.weight.double().T
    torch.testing.assert_close(found.double(), exact, rtol=2e-6, atol=2e-6)


def test_a_packed_head_computes_by_itself() -> None:
    """A head whose weight is no tensor any more, as torch's own dynamic int8 leaves it, is called as it is."""

    class Packed(torch.nn.Module):
        def weight(self) -> torch.Tensor:
            return torch.zeros(1)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden[:, :3] * 2

    model = decoder()
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.inference_mode():
        hidden = model.module.model(ids).last_hidden_state[0]
        packed = Packed()
        model.module.lm_head = packed
        model.module.get_output_embeddings = lambda: packed
        found, _ = ScoredHead(model).run(torch.tensor([1, 3]), input_ids=ids)
    torch.testing.assert_close(found, hidden[[1, 3], :3] * 2)


def test_a_model_without_a_head_is_refused() -> None:
    """In one line."""
    model = decoder()
    model.module.get_output_embeddings = lambda: None
    with pytest.raises(ProbeError, match=r"^probe facts: model 'tiny-decoder': got no vocabulary layer, expected .*\.$"):
        ScoredHead(model)
