from __future__ import annotations

import json
import random
import sys
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from made_models import VOCABULARY, make_model

from pytest_kick.calibration import corrupt, prepare, sources
from pytest_kick.calibration.batches import Sample, make_batches, samples_hash
from pytest_kick.calibration.draw import draw
from pytest_kick.calibration.prepare import max_length
from pytest_kick.errors import CalibrationError, SuiteError
from pytest_kick.facts import load_facts, shipped_facts
from pytest_kick.infos import CALIBRATION
from pytest_kick.spec import Calibration

if TYPE_CHECKING:
    from pathlib import Path

MASK, START = 4, 3


def text_of(path: Path, n_words: int) -> str:
    """Write a text of numbered words; return it as a source."""
    path.write_text(" ".join(f"w{number % 40}" for number in range(n_words)), encoding="utf-8")
    return f"path:{path}"


def words(model: Any, ids: tuple[int, ...]) -> list[int]:
    """Return the numbers of the words among some ids."""
    return [int(token[1:]) for token in model.tokenizer.convert_ids_to_tokens(list(ids)) if token.startswith("w")]


def test_windows_do_not_overlap_and_follow_the_seed(tmp_path: Path) -> None:
    """Windows are cut end to end, chosen without repetition by the seed, each with the BOS token that prompts have."""
    model = make_model("llama")
    source = text_of(tmp_path / "text.txt", 40 * 9)
    data = prepare(Calibration(source=source, count=12, length=10), model)
    assert {len(sample.input_ids) for sample in data.samples} == {10}
    assert {sample.input_ids[0] for sample in data.samples} == {0}
    starts = [words(model, sample.input_ids)[0] for sample in data.samples]
    assert all(words(model, s.input_ids) == [(start + i) % 40 for i in range(9)] for s, start in zip(data.samples, starts, strict=True))
    assert prepare(Calibration(source=source, count=12, length=10), model) == data
    assert prepare(Calibration(source=source, count=12, length=10, seed=1), model).hash != data.hash
    whole = prepare(Calibration(source=source, count=40, length=10), model)
    assert Counter(word for sample in whole.samples for word in words(model, sample.input_ids)) == dict.fromkeys(range(40), 9)


def test_too_little_text_says_how_many_windows(tmp_path: Path) -> None:
    """Asked for more windows than the text has, the one-line error counts them."""
    source = text_of(tmp_path / "text.txt", 50)
    with pytest.raises(CalibrationError, match=r"has 5 windows of 9 tokens") as caught:
        prepare(Calibration(source=source, count=6, length=10), make_model("llama"))
    assert "\n" not in str(caught.value)


def test_length_is_capped_by_the_positions(tmp_path: Path) -> None:
    """A sequence is never longer than the model's positions; RoBERTa's begin after its padding index; T5's sentinels bound it too."""
    source = text_of(tmp_path / "text.txt", 2000)
    calibration = Calibration(source=source, count=4)
    assert max_length(make_model("llama")) == 48
    assert max_length(make_model("roberta")) == 48 - 3 - 1
    assert {len(s.input_ids) for s in prepare(calibration, make_model("roberta")).samples} == {44}
    model = make_model("t5", sentinels=3)
    read = prepare(calibration, model).samples[0]
    assert len(words(model, (*read.input_ids, *read.decoder_input_ids))) == 2 * 3 / 0.15


def test_encoders_see_masks(tmp_path: Path) -> None:
    """15% of a window's tokens are chosen: about 80% of them masked, the others random or left; special tokens stay in place."""
    model = make_model("bert")
    source = text_of(tmp_path / "text.txt", 40 * 300)
    data = prepare(Calibration(source=source, count=250, length=42), model)
    n_masks = sum(sample.input_ids.count(MASK) for sample in data.samples)
    assert {(s.input_ids[0], s.input_ids[-1], len(s.input_ids)) for s in data.samples} == {(0, 1, 42)}
    assert 0.75 < n_masks / (250 * 6) < 0.85
    changed = 0
    for sample in data.samples:
        inner = sample.input_ids[1:-1]
        # each window is a run of 40 words; the most common offset is its start, whatever was replaced
        offsets = Counter((model.tokenizer.convert_ids_to_tokens([t])[0], i) for i, t in enumerate(inner))
        numbers = [(int(token[1:]) - i) % 40 for token, i in offsets if token.startswith("w") and int(token[1:]) < 40]
        start = Counter(numbers).most_common(1)[0][0]
        expected = model.tokenizer.convert_tokens_to_ids([f"w{(start + i) % 40}" for i in range(40)])
        changed += sum(a not in {b, MASK} for a, b in zip(inner, expected, strict=True))
        assert sum(a != b for a, b in zip(inner, expected, strict=True)) <= 6
    assert 0.06 < changed / (250 * 6) < 0.14


def test_encoder_decoders_see_spans(tmp_path: Path) -> None:
    """Encoder and decoder together hold the window once: 15% of it at the decoder, spans of 3 on average under sentinels in order."""
    model = make_model("t5")
    marks = model.tokenizer.convert_tokens_to_ids([f"<extra_id_{n}>" for n in range(8)])
    source = text_of(tmp_path / "text.txt", 4000)
    for sample in prepare(Calibration(source=source, count=20, length=41), model).samples:
        shown, told = list(sample.input_ids), list(sample.decoder_input_ids)
        assert (shown[-1], told[0], told[-1]) == (1, START, marks[2])
        assert [i for i in shown if i in marks] == marks[:2]
        assert [i for i in told if i in marks] == marks[:3]
        assert len(told) - 4 == 6
        pieces = {mark: told[told.index(mark) + 1 : told.index(after)] for mark, after in pairwise(marks[:3])}
        rebuilt = [token for i in shown[:-1] for token in pieces.get(i, [i])]
        numbers = words(model, tuple(rebuilt))
        assert numbers == [(numbers[0] + i) % 40 for i in range(40)]


def test_bart_fills_masks_in(tmp_path: Path) -> None:
    """An encoder-decoder without sentinels sees one mask for each span, and its decoder the whole window after its start token."""
    model = make_model("bart", sentinels=0)
    source = text_of(tmp_path / "text.txt", 2000)
    for sample in prepare(Calibration(source=source, count=5, length=41), model).samples:
        assert sample.input_ids.count(MASK) == 2
        assert sample.decoder_input_ids[0] == 1
        numbers = words(model, sample.decoder_input_ids)
        assert numbers == [(numbers[0] + i) % 40 for i in range(40)]


def test_a_tokenizer_without_marks_is_refused() -> None:
    """A masked language model without a mask, and an encoder-decoder without either kind of mark, are errors that say so."""
    model = make_model("bert")
    model.tokenizer.mask_token = None
    with pytest.raises(CalibrationError, match="without a mask token"):
        prepare(Calibration(), model)
    model = make_model("bart", sentinels=0)
    model.tokenizer.mask_token = None
    with pytest.raises(CalibrationError, match="without sentinels or a mask"):
        prepare(Calibration(), model)


@pytest.mark.parametrize("size", [2, 3, 7, 40, 333])
def test_spans_partition_the_window(size: int) -> None:
    """Kept and hidden pieces alternate, none is empty, together they are the window, and 15% is hidden."""
    for seed in range(20):
        pieces = corrupt.spans(range(size), random.Random(seed))  # noqa: S311 - a fixed seed
        assert [token for kept, hidden in pieces for token in (*kept, *hidden)] == list(range(size))
        assert all(kept and hidden for kept, hidden in pieces)
        n_hidden = sum(len(hidden) for _, hidden in pieces)
        assert n_hidden == max(1, round(0.15 * size))
        assert len(pieces) == max(1, round(n_hidden / 3))


def test_statements_are_sequences_of_their_own() -> None:
    """The statements source gives whole sentences of the never-probed split, of their own lengths, and no fact of the probe."""
    model = make_model("llama")
    known = set(sources.read_statements())
    assert "The city of Benguela is located in the country of Angola." in known or len(known) > 1000
    data = prepare(Calibration(source="statements", count=30), model, [shipped_facts()])
    assert len({len(sample.input_ids) for sample in data.samples}) > 1
    assert any("unknown" in note for note in data.notes)


def test_the_shipped_text_suffices_for_the_defaults() -> None:
    """The default asks for 262,144 tokens: the shipped text has 1.7 million characters, 350,000 words and numbers and marks."""
    text = sources.read_text(Calibration())
    assert len(text.split()) > 300_000
    assert "Gutenberg" not in text
    assert prepare(Calibration(count=32, length=32), make_model("llama")).n_tokens == 32 * 32


def test_jsonl_and_its_errors(tmp_path: Path) -> None:
    """A JSONL file gives the field `text` of each line; a line without it, and a missing file, are errors with their place."""
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"text": "one\ntwo"}) + "\n" + json.dumps({"text": "three"}) + "\n", encoding="utf-8")
    assert sources.read_text(Calibration(source=f"path:{path}")) == "one\ntwo\n\nthree"
    path.write_text(json.dumps({"words": "one"}) + "\n", encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"text\.jsonl:1: text: got null"):
        sources.read_text(Calibration(source=f"path:{path}"))
    with pytest.raises(CalibrationError, match="No such file"):
        sources.read_text(Calibration(source=f"path:{tmp_path / 'none.txt'}"))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"text\.jsonl:1"):
        sources.read_text(Calibration(source=f"path:{path}"))
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n", encoding="utf-8")
    with pytest.raises(CalibrationError, match="holds no text"):
        sources.read_text(Calibration(source=f"path:{empty}"))


def test_a_data_set_is_read_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a data set are streamed until there is text enough; id, configuration and split are passed on."""
    asked = []

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        asked.append((name, config, split, streaming))
        return ({"text": f" {'x' * 100}{number} "} for number in range(1000))

    fake = ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    text = sources.read_text(Calibration(source="datasets:org/set#raw@test", count=2, length=10))
    assert asked == [("org/set", "raw", "test", True)]
    assert len(text.split("\n\n")) == -(-2 * 10 * sources.CHARACTERS_PER_TOKEN // 103)
    sources.read_text(Calibration(source="datasets:org/set", count=2, length=10))
    assert asked[-1] == ("org/set", None, "train", True)


def test_a_data_set_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, and without a network, the error is one line that says what to do."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CalibrationError, match="pip install datasets"):
        sources.read_text(Calibration(source="datasets:org/set"))

    def load_dataset(*_args: object, **_options: object) -> Any:
        message = "offline\nsecond line"
        raise ConnectionError(message)

    fake = ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(CalibrationError, match=r"ConnectionError \(offline\)") as caught:
        sources.read_text(Calibration(source="datasets:org/set"))
    assert "\n" not in str(caught.value)


def test_a_model_draws_by_its_own_probabilities() -> None:
    """Drawn tokens follow the seed alone, stay in the vocabulary, and are as likely as a plain forward pass of the model says."""
    model = make_model("llama")
    model.module.lm_head.weight.mul_(30)  # far from uniform
    torch.manual_seed(0)
    state = torch.get_rng_state()
    drawn = draw(model, 2000, 4, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert drawn == draw(model, 2000, 4, seed=0)
    assert drawn != draw(model, 600, 4, seed=1)
    assert not {0, 2, 3, 4} & {token for row in drawn for token in row}
    with torch.no_grad():
        logits = model.module(torch.tensor([[0]])).logits[0, -1]
    logits[[0, 2, 3, 4]] = -torch.inf
    expected = logits.softmax(dim=-1) * 2000
    counts = torch.bincount(torch.tensor([row[0] for row in drawn]), minlength=VOCABULARY)
    possible = expected > 0
    chi2 = float(((counts - expected)[possible].square() / expected[possible]).sum())
    assert chi2 < 110  # 55 degrees of freedom: exceeded once in 10,000
    data = prepare(Calibration(source="model", count=3, length=12), model)
    assert [len(s.input_ids) for s in data.samples] == [12] * 3


def test_only_decoders_draw() -> None:
    """The source `model` is refused for the other families."""
    with pytest.raises(CalibrationError, match="expected a decoder"):
        prepare(Calibration(source="model"), make_model("bert"))


def test_batches_hold_equal_lengths_only() -> None:
    """Every sample is in one batch, batches stay below their tokens, and none mixes lengths."""
    samples = [Sample(input_ids=tuple(range(n))) for n in (4, 5, 4, 4, 9, 5)]
    batches = make_batches(samples, 8)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(2, 4), (1, 4), (1, 5), (1, 5), (1, 9)]


def test_the_hash_sees_every_token() -> None:
    """Another id, another side, another order: another hash."""
    a, b = Sample(input_ids=(1, 2), decoder_input_ids=(3,)), Sample(input_ids=(1, 2, 3))
    assert len({samples_hash(s) for s in ([a], [b], [a, b], [b, a])}) == 4


def test_leaks_are_counted_and_verbatim_facts_refused(tmp_path: Path) -> None:
    """Subject and answer in one sequence are counted; the words of a template, whatever their case, are refused."""
    path = tmp_path / "facts.jsonl"
    lines = [
        {"kind": "dataset", "schema": 1, "name": "f", "version": "1", "license": "x"},
        {"kind": "relation", "relation": "r", "templates": ["The w1 of [X] is [Y].", "[Y] is the w1 of [X]."], "answers": ["w7", "w9 w9"]},
        {"kind": "fact", "relation": "r", "subject": "w5", "answer": "w7"},
        {"kind": "fact", "relation": "r", "subject": "w6", "answer": "w9 w9"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    facts = [load_facts(path)]
    model = make_model("llama")
    source = text_of(tmp_path / "text.txt", 80)
    data = prepare(Calibration(source=source, count=8, length=10), model, facts)
    # the words 5 and 7 stand together in the window from 0 and in that from 36, which is 36..44 of 40
    assert data.notes == ("calibration names subject and answer of 1 facts, in 2 sequences",)
    (tmp_path / "text.txt").write_text("w9 w1 w2 w3 w4 w5 w6 the W1 of w5, is w7 w8 " * 20, encoding="utf-8")
    model.tokenizer.decode = lambda ids, **_: "then THE w1 of w5 is W7" if len(ids) else ""  # type: ignore[method-assign]
    with pytest.raises(CalibrationError, match=r"got 'The w1 of w5 is w7\.', a fact of the probe"):
        prepare(Calibration(source=source, count=8, length=10), model, facts)


@pytest.mark.parametrize(
    ("field", "value"),
    [("source", "books"), ("source", "path:"), ("count", 0), ("count", 1.5), ("length", 7), ("seed", -1), ("propagate", "none")],
)
def test_settings_are_checked(field: str, value: Any) -> None:
    """Each field outside its rule is an error of the suite that names the field."""
    with pytest.raises(SuiteError, match=f"calibration: {field}: got"):
        Calibration(**{field: value})


def test_methods_have_the_defaults_of_the_settings() -> None:
    """What a suite leaves out is what `Calibration` says."""
    assert dict(CALIBRATION) == asdict(Calibration())
