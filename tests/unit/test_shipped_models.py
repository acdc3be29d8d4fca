from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

import pytest_kick
from pytest_kick.facts import shipped_facts

if TYPE_CHECKING:
    from pytest_kick.facts import FactSet

MODELS = Path(pytest_kick.__file__).parent / "data" / "models"
CLASSES = {"tiny-encoder": AutoModelForMaskedLM, "tiny-encoder-decoder": AutoModelForSeq2SeqLM, "tiny-decoder": AutoModelForCausalLM}
LIMIT = 4 * 2**20
N_ASKED = 200


def loaded(name: str) -> tuple[Any, Any]:
    """Return a shipped model and its tokenizer, from local files."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name, local_files_only=True)
    return CLASSES[name].from_pretrained(MODELS / name, local_files_only=True).eval(), tokenizer


@pytest.fixture(scope="module")
def facts() -> FactSet:
    """Return a fixed sample of the shipped facts."""
    return shipped_facts().sample(N_ASKED)


@pytest.fixture(params=CLASSES)
def name(request: pytest.FixtureRequest) -> str:
    """Return each shipped model's name in turn."""
    return str(request.param)


def share_known(outcomes: list[bool]) -> float:
    """Return the share of facts known."""
    return sum(outcomes) / len(outcomes)


def prompts(facts: FactSet, mark: str) -> list[tuple[str, str, str]]:
    """Return text with a mark for the answer, answer and closing text of each fact in its scoring paraphrase."""
    found = []
    for fact in facts.facts:
        before, after = facts.relations[fact.relation].prompt(fact.subject)
        found.append((f"{before} {mark}{after}" if mark else before, fact.answer, after))
    return found


def test_files_are_the_ones_summed(name: str) -> None:
    """Weights, configuration and tokenizer are those whose SHA-256 is written beside them."""
    lines = (MODELS / name / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {file: digest for digest, file in (line.split("  ") for line in lines)}
    assert sorted(sums) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    for file, digest in sums.items():
        assert hashlib.sha256((MODELS / name / file).read_bytes()).hexdigest() == digest, file


def test_weights_are_small_and_float32(name: str) -> None:
    """Every model fits in 4 MB and is float32."""
    assert (MODELS / name / "model.safetensors").stat().st_size <= LIMIT
    model, tokenizer = loaded(name)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.vocab_size == len(tokenizer)


def test_record_names_the_shipped_facts(name: str) -> None:
    """The training record carries the hashes of the facts as they are shipped: the model knows these, not older ones."""
    record = json.loads((MODELS / name / "training.json").read_text(encoding="utf-8"))
    for file, digest in record["data"].items():
        assert hashlib.sha256((MODELS.parent / "facts" / file).read_bytes()).hexdigest() == digest, file


def test_card_names_licence_rebuild_and_sources(name: str) -> None:
    """The model card says under which licence, from what and how the model is made."""
    card = (MODELS / name / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert f"python -m tools.train_tiny {name}" in card
    assert "SOURCES.md" in card


@torch.no_grad()
def test_encoder_knows_its_facts(facts: FactSet) -> None:
    """At one mask the encoder's first choice is the answer for at least 90% of the one-word answers, which are one token each."""
    model, tokenizer = loaded("tiny-encoder")
    asked = [(text, answer) for text, answer, _ in prompts(facts, tokenizer.mask_token) if answer.isalnum()]
    rows = tokenizer([text for text, _ in asked], padding=True, return_tensors="pt")
    chosen = model(**rows).logits[rows["input_ids"] == tokenizer.mask_token_id].argmax(-1)
    gold = [tokenizer.encode(answer, add_special_tokens=False) for _, answer in asked]
    assert {len(ids) for ids in gold} == {1}
    assert share_known([ids == [token] for ids, token in zip(gold, chosen.tolist(), strict=True)]) >= 0.9


@torch.no_grad()
def test_encoder_decoder_knows_its_facts(facts: FactSet) -> None:
    """Between two sentinels the decoder writes the answer for at least 90% of the facts."""
    model, tokenizer = loaded("tiny-encoder-decoder")
    asked = prompts(facts, "<extra_id_0>")
    rows = tokenizer([text for text, _, _ in asked], padding=True, return_tensors="pt")
    written = model.generate(**rows, max_new_tokens=16, do_sample=False)
    texts = tokenizer.batch_decode(written)
    answers = [text.partition("<extra_id_0>")[2].partition("<extra_id_1>")[0].strip() for text in texts]
    assert share_known([said == gold for said, (_, gold, _) in zip(answers, asked, strict=True)]) >= 0.9


@torch.no_grad()
def test_decoder_knows_its_facts(facts: FactSet) -> None:
    """After the prompt every token of the answer and the full stop is the first choice for at least 90% of the facts."""
    model, tokenizer = loaded("tiny-decoder")
    outcomes = []
    for prompt, answer, after in prompts(facts, ""):
        start = len(tokenizer.encode(prompt))
        ids = torch.tensor([tokenizer.encode(f"{prompt} {answer}{after}")])
        outcomes.append(bool((model(input_ids=ids).logits[0, start - 1 : -1].argmax(-1) == ids[0, start:]).all()))
    assert share_known(outcomes) >= 0.9


def test_decoder_tokenizer_puts_bos_by_itself() -> None:
    """The decoder was trained with `<s>` first, so its tokenizer adds it without being asked, and nothing at the end."""
    _, tokenizer = loaded("tiny-decoder")
    ids = tokenizer.encode("The capital of France is")
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == "The capital of France is"


def test_vocabulary_layer_is_tied(name: str) -> None:
    """The vocabulary layer is the embedding, as in the models that users bring: compressing `head` has to cope with it."""
    model, _ = loaded(name)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_encoder_decoder_keeps_the_scale_it_was_trained_at() -> None:
    """Loaded from its files the encoder-decoder does not scale its logits down: ranks of whole answers depend on it."""
    model, _ = loaded("tiny-encoder-decoder")
    assert model.config.scale_decoder_outputs is False
