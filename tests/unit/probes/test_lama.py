"""LAMA's figures against a plain implementation of its rules, and what the probe refuses."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_relations import WORDS, made, write, write_lama
from plain_scorer import decoder, encoder, log_softmax, plain_logits, span_model

from pytest_kick.errors import DataError, ProbeError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

TREX = {"dataset": "trex", "licence": "cc-by-nc"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a directory of made-up data."""
    write_lama(tmp_path)
    return tmp_path


def read(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def plain_lama(model: LoadedModel, folder: Path) -> dict[str, Any]:
    """Return LAMA's figures by its own rules, one pass per fact: P@1, P@10, MRR, macro over relations and over those of a type."""
    tokenizer = model.tokenizer
    vocabulary = []
    for word in (folder / "lama_vocab" / "common_vocab_cased.txt").read_text(encoding="utf-8").split():
        pieces = tokenizer.tokenize(word)
        if len(pieces) == 1 and pieces[0] == word:
            vocabulary.append(word)
    by_relation: dict[str, list[tuple[bool, bool, float]]] = {}
    types: dict[str, list[str]] = defaultdict(list)
    for entry in read(folder / "lama_trex" / "relations.jsonl"):
        paths = list((folder / "lama_trex").glob(f"*/{entry['relation']}.jsonl"))
        if not paths:
            continue
        asked, scores = [], []
        for row in read(paths[0]):
            pair = (row["sub_label"], row["obj_label"])
            if row["obj_label"] not in vocabulary or pair in asked:
                continue
            asked.append(pair)
            sentence = entry["template"].replace("[X]", row["sub_label"]).replace("[Y]", "[MASK]")
            ids = tokenizer.encode(sentence)
            with torch.inference_mode():
                logits = model.module(torch.tensor([ids])).logits[0, ids.index(tokenizer.mask_token_id)]
            table = log_softmax(logits.double().numpy())
            ranked = sorted(vocabulary, key=lambda word: -table[tokenizer.convert_tokens_to_ids(word)])
            rank = ranked.index(row["obj_label"]) + 1
            scores.append((rank == 1, rank <= 10, 1 / rank))
        by_relation[entry["relation"]] = scores
        types[entry["type"]].append(entry["relation"])
    means = {name: np.mean(scores, axis=0) for name, scores in by_relation.items()}
    figures = dict(zip(("macro_p1", "macro_p10", "mrr"), np.mean(list(means.values()), axis=0), strict=True))
    figures |= {f"macro_p1_{kind}": np.mean([means[name][0] for name in names]) for kind, names in types.items()}
    return figures | {"n": sum(map(len, by_relation.values()))}


@pytest.mark.parametrize("seed", range(6))
def test_figures_on_a_tiny_bert_equal_those_of_a_plain_implementation(data: Path, seed: int) -> None:
    """P@1, P@10 and MRR, macro over relations, and P@1 by type, are what plain loops over LAMA's rules give."""
    model = encoder(seed)
    score, expected = made("lama", data, **TREX).run(model), plain_lama(model, data)
    assert score.n == expected.pop("n")
    for name, value in expected.items():
        assert score.metrics[name] == pytest.approx(value, abs=1e-6), name
    # kalomi and sha: not one token, not a common word; the row that stands twice is asked once
    assert score.excluded == {"asked already": 2, "object of several tokens": 2, "object outside of the common vocabulary": 2}
    assert score.trivial["chance"] == 1 / 9
    assert score.settings["answer"] == "at the mask"


def ranks_of(model: LoadedModel, prompt: list[int], gold: int) -> tuple[int, float]:
    """Return the rank of a token within the common vocabulary after or at a prompt, and its log-probability in the whole one."""
    table = log_softmax(plain_logits(model, prompt, [])[0])
    among = [table[token] for token in {model.tokenizer.convert_tokens_to_ids(word) for word in WORDS if word != "kalo"}]
    return sum(value >= table[gold] for value in among), float(table[gold])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [decoder, span_model])
def test_other_families_rank_the_next_token(data: Path, make: Any, seed: int) -> None:
    """A decoder is asked where the answer comes last, an encoder-decoder at its sentinel; both among the common words."""
    model = make(seed=seed)
    score = made("lama", data, **TREX).run(model)
    facts = {row["uuid"]: row for row in read(data / "lama_trex" / "TREx" / "P1.jsonl")}
    names = [str(name) for name in score.examples.ids if str(name).startswith("P1/")]
    assert (model.family == "decoder") == (len(names) == score.n)
    assert ("answer not last" in score.excluded) == (model.family == "decoder")
    for name in names:
        row = facts[name.removeprefix("P1/")]
        place = score.examples.ids.tolist().index(name)
        if model.family == "decoder":
            prompt = model.prompt_ids(f"the city of {row['sub_label']} is")
        else:
            prompt = model.tokenizer.encode(f"the city of {row['sub_label']} is <extra_id_0> .")
        rank, logprob = ranks_of(model, prompt, model.tokenizer.convert_tokens_to_ids(row["obj_label"]))
        assert score.examples.arrays["reciprocal_rank"][place] == pytest.approx(1 / rank)
        assert score.examples.arrays["gold_logprob"][place] == pytest.approx(logprob, abs=1e-4)


def test_google_re_drops_what_raters_judged_false(data: Path) -> None:
    """More noes than yeses drop a fact, as many do not; the template of the relation is asked."""
    score = made("lama", data, dataset="google_re", licence="cc-by-nc").run(encoder())
    assert score.excluded == {"judged false": 3}
    assert sorted(score.examples.ids) == sorted(
        f"{relation}/{number}" for relation in ("date_of_birth", "place_of_birth", "place_of_death") for number in (1, 3)
    )


def test_as_the_first_study_scores(data: Path) -> None:
    """With a_compat: the fact's own sentence, every mask, the whole vocabulary, whatever the object; micro over mask positions."""
    model = encoder()
    tokenizer = model.tokenizer
    write(
        data / "lama_squad" / "test.jsonl",
        [
            {"id": str(number), "sub_label": "Squad", "obj_label": label, "masked_sentences": [text]}
            for number, (text, label) in enumerate(
                [("the [MASK] is", "mi"), ("[MASK] of [MASK] .", "Zi"), ("a [MASK] .", "kalomi"), ("ka [MASK]", "1"), ("ka [MASK]", "ka")]
            )
        ],
    )
    score = made("lama", data, dataset="squad", licence="cc-by-nc", a_compat=True).run(model)
    hits, count = {1: 0, 5: 0}, 0
    for text, label in [("the [MASK] is", "mi"), ("[MASK] of [MASK] .", "zi"), ("a [MASK] .", "kalomi"), ("ka [MASK]", "1")]:
        ids = tokenizer.encode(text)
        with torch.inference_mode():
            logits = model.module(torch.tensor([ids])).logits[0]
        for place, token in enumerate(ids):
            if token == tokenizer.mask_token_id:
                count += 1
                top = [tokenizer.decode([found]).strip().lower() for found in logits[place].topk(5).indices.tolist()]
                hits[1] += top[0] == label
                hits[5] += label in top
    assert score.n == 4
    assert score.metrics["position_p1"] == pytest.approx(hits[1] / count)
    assert score.metrics["position_p5"] == pytest.approx(hits[5] / count)
    assert score.settings["ranked"] == "whole vocabulary"
    with pytest.raises(ProbeError, match=r"^probe lama:squad--.*: model 'tiny-decoder': a_compat: got true .*, expected an encoder: .*\.$"):
        made("lama", data, dataset="squad", licence="cc-by-nc", a_compat=True).run(decoder())


def test_whole_statements_are_another_score(data: Path) -> None:
    """By whole statements every template is asked of a decoder, over the relation's objects; the settings say so."""
    score = made("lama", data, **TREX, scoring="statement").run(decoder())
    assert set(score.examples.groups) == {"P1", "P2"}
    assert score.settings["answer"] == "whole statement"
    assert score.excluded["object outside of the common vocabulary"] == 4
    with pytest.raises(DataError, match=r"^probe lama:squad--.*: scoring: got no relation with a template and two objects .*\.$"):
        made("lama", data, dataset="squad", licence="cc-by-nc", scoring="statement")


def test_own_facts_need_no_licence(tmp_path: Path) -> None:
    """Facts of one's own in LAMA's format, ranked in the whole vocabulary, need neither directory nor acknowledgement."""
    rows = [
        {"sub_label": s, "obj_label": o, "template": "[X] is [Y] .", "relation": "r", "type": "N-1"}
        for s, o in (("ka", "lo"), ("mi", "zi"))
    ]
    write(tmp_path / "own.jsonl", rows)
    score = made("lama", None, outside=f"path:{tmp_path / 'own.jsonl'}", vocabulary="whole").run(encoder())
    assert score.examples.ids.tolist() == ["r/ka/lo", "r/mi/zi"]
    assert score.trivial["majority"] == 0.5
    assert "macro_p1_N-1" in score.metrics
    with pytest.raises(
        DataError, match=r"^probe lama:own: licence: got '', expected 'cc-by-nc': LAMA's common vocabulary is CC BY-NC 4\.0, .*\.$"
    ):
        made("lama", None, outside=f"path:{tmp_path / 'own.jsonl'}")
    with pytest.raises(DataError, match=r"^probe lama:own--.*: vocabulary: got 'common' without a directory of data, .*\.$"):
        made("lama", None, outside=f"path:{tmp_path / 'own.jsonl'}", licence="cc-by-nc")


@pytest.mark.parametrize("licence", ["", "mit"])
def test_the_licence_has_to_be_acknowledged(data: Path, licence: str) -> None:
    """Without the licence's name, or with another one, the data are refused in one line that names it."""
    with pytest.raises(
        DataError, match=rf"^probe lama:trex.*: licence: got '{licence}', expected 'cc-by-nc': LAMA is CC BY-NC 4\.0, .*\.$"
    ):
        made("lama", data, dataset="trex", licence=licence)


@pytest.mark.parametrize("make", [encoder, decoder, span_model])
@pytest.mark.parametrize("scoring", ["token", "statement"])
def test_a_model_of_zeros_knows_nothing(data: Path, make: Any, scoring: str) -> None:
    """Equal logits are never right."""
    model = make()
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    score = made("lama", data, **TREX, scoring=scoring).run(model)
    assert score.metrics["p1"] == 0.0
    assert (score.examples.arrays["predicted"] == -1).all()
    assert (score.examples.arrays["margin"] <= 0).all()


@pytest.mark.parametrize("make", [encoder, decoder, span_model])
def test_broken_weights_are_an_error(data: Path, make: Any) -> None:
    """NaN logits are an error in one line."""
    model = make()
    head = model.module.get_output_embeddings()
    name = next(name for name, parameter in model.module.named_parameters() if parameter is head.weight)
    model.touch([name])
    head.weight[7] = float("nan")
    with pytest.raises(ProbeError, match=r"^probe lama: model 'tiny-.*': got NaN or infinite logits, expected finite ones\. .*\.$"):
        made("lama", data, **TREX).run(model)


def test_a_sample_lies_inside_of_the_whole(data: Path) -> None:
    """The examples of a sample score as they do among all, under the same hash."""
    probe, model = made("lama", data, **TREX), encoder()
    whole, part = probe.run(model), probe.run(model, limit=4, seed=1, batch_size=2)
    places = [whole.examples.ids.tolist().index(name) for name in part.examples.ids]
    assert part.n == 4
    for name, values in part.examples.arrays.items():
        np.testing.assert_allclose(values, whole.examples.arrays[name][places], atol=1e-4)
    assert part.examples.hashes.tolist() == whole.examples.hashes[places].tolist()
