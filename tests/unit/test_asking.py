"""How suites name probes: variants, parameters, fixed samples, and which models they ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from suite_files import read

from pytest_kick.asking import read_probes
from pytest_kick.catalog import catalog
from pytest_kick.errors import UsageError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.runner import of_sample

if TYPE_CHECKING:
    from pathlib import Path

MODELS = [catalog()[name] for name in ("tiny-encoder", "tiny-decoder")]


def ids(tmp_path: Path, *entries: Any) -> list[str]:
    """Return the ids of probes as a suite gives them."""
    return [entry.spec.id for entry in read_probes("here", list(entries), tmp_path, MODELS)]


def test_ids_say_what_differs_from_the_default(tmp_path: Path) -> None:
    """A variant stands after a colon, other parameters after it in the probe's own order; defaults say nothing."""
    assert ids(tmp_path, "facts", "perplexity:statements") == ["facts", "perplexity:statements"]
    table = {"probe": "perplexity", "windows": 8, "length": 64, "text": "statements", "seed": 0}
    assert ids(tmp_path, table) == ["perplexity:statements--length-64--windows-8"]


def test_a_file_is_named_by_its_stem(tmp_path: Path) -> None:
    """Ids hold no path; the probe finds the file beside the suite all the same."""
    (entry,) = read_probes("here", [{"probe": "perplexity", "text": "path:notes.txt"}], tmp_path, MODELS)
    assert entry.spec.id == "perplexity:notes"
    assert entry.spec.named("text") == f"path:{tmp_path.resolve() / 'notes.txt'}"


def test_a_fixed_sample_is_the_same_for_every_seed(tmp_path: Path) -> None:
    """`sample` stands in the id; a limit below it takes a part of it, another seed changes nothing."""
    assert ids(tmp_path, {"probe": "facts", "sample": 300}) == ["facts--sample-300"]
    spec = ProbeSpec(name="facts", params=(("sample", 300),))
    assert of_sample(spec, {"limit": None, "seed": 5}) == {"limit": 300, "seed": 0}
    assert of_sample(spec, {"limit": 40, "seed": 5}) == {"limit": 40, "seed": 0}
    assert of_sample(ProbeSpec(name="facts"), {"limit": 40, "seed": 5}) == {"limit": 40, "seed": 5}
    own = ProbeSpec(name="divergence", params=(("sample", 64),))
    assert of_sample(own, {"limit": None, "seed": 5}) == {"limit": None, "seed": 5}


def test_a_distance_is_of_the_examples_of_a_probe(tmp_path: Path) -> None:
    """`divergence` takes the parameters of the probe whose examples it compares; its id says both, and is as before for facts."""
    table = {"probe": "divergence", "of": "mmlu", "shots": 0, "score": "letter", "families": "decoder"}
    assert ids(tmp_path, "divergence", {"probe": "divergence:facts"}, table) == ["divergence", "divergence", "divergence:mmlu--shots-0"]
    assert ids(tmp_path, {"probe": "divergence", "options": "whole", "sample": 9}) == ["divergence--sample-9--options-whole"]
    (entry,) = read_probes("here", [{"probe": "divergence:questions", "file": "path:own.jsonl", "sample": 8}], tmp_path, MODELS)
    assert entry.spec.id == "divergence:questions--sample-8--file-own"
    assert entry.spec.named("file") == f"path:{tmp_path.resolve() / 'own.jsonl'}"
    lama = {"probe": "divergence", "of": "lama", "dataset": "trex", "licence": "cc-by-nc"}
    assert ids(tmp_path, lama) == ["divergence:lama--dataset-trex--licence-cc-by-nc"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"shots": 0}, r"divergence: got 'shots', expected a parameter of this probe"),
        ({"of": "bear", "options": "whole"}, r"divergence: got 'options', expected a parameter"),
        ({"of": "mmlu", "template": 1, "families": "decoder"}, r"got 'template', expected a parameter"),
        ({"of": "mmlu"}, r"got \['divergence:mmlu', 'tiny-encoder'\], expected a model of family encoder-decoder or decoder"),
        ({"of": "mmul"}, r"of: got 'mmul', expected one of facts, mmlu, questions, bear, lama"),
        ({"of": "questions"}, r"file: got none, expected what questions asks about"),
        ({"of": "lama", "licence": "cc-by-nc"}, r"dataset: got none, expected what lama asks about"),
        ({"of": "bear", "template": "all"}, r"template: got 'all', expected a whole number"),
    ],
)
def test_a_distance_refuses_what_its_examples_have_not(table: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A parameter of another probe, a family it is not for, a probe without fixed options, and one without what it asks about."""
    with pytest.raises(UsageError, match=said) as caught:
        ids(tmp_path, {"probe": "divergence", **table})
    assert "\n" not in str(caught.value)


def test_probes_may_ask_some_models_only(tmp_path: Path) -> None:
    """`families` and `models` choose; each cell has the probes that ask its model."""
    suite = read(
        tmp_path,
        'schema = 1\nmodels = ["tiny-encoder", "tiny-decoder"]\n'
        'probes = ["facts", {probe = "mmlu", families = "decoder"}, {probe = "perplexity", models = ["tiny-encoder"]}]\n',
        "one",
    )
    assert {case.model.name: case.probes for case in suite.cases} == {
        "tiny-encoder": ("facts", "perplexity"),
        "tiny-decoder": ("facts", "mmlu"),
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("fact", r"here: probes\[0\]: probe: got 'fact', expected a known probe\. Did you mean 'facts'\?"),
        ({"windows": 3}, r"here: probes\[0\]: got \{'windows': 3\}, expected a name, or a table with `probe`"),
        ("facts:all", r"here: probes\[0\]: probe: got 'facts:all', expected 'facts' alone\."),
        ({"probe": "perplexity", "window": 3}, r"here: probes\[0\]: perplexity: got 'window', expected .*Did you mean 'windows'\?"),
        ({"probe": "perplexity", "windows": "many"}, r"here: probes\[0\]: windows: got 'many', expected a whole number"),
        ({"probe": "perplexity:statements", "text": "shipped"}, r"here: probes\[0\]: probe: got 'perplexity:statements', expected"),
        ({"probe": "facts", "sample": 0}, r"here: probes\[0\]: sample: got 0, expected a number of examples from 1\."),
        ({"probe": "facts", "sample": True}, r"here: probes\[0\]: sample: got True, expected a number"),
        (
            {"probe": "facts", "families": "decoders"},
            r"here: probes\[0\]\.families: got 'decoders', expected one of .*Did you mean 'decoder'\?",
        ),
        ({"probe": "facts", "models": []}, r"here: probes\[0\]\.models: got \[\], expected one of tiny-encoder, tiny-decoder"),
        ("mmlu", r"here: probes\[0\]: got \['mmlu', 'tiny-encoder'\], expected a model of family .*`families` or `models`\."),
        ({"probe": "mmlu", "families": "encoder-decoder"}, r"here: probes\[0\]: got 'mmlu', expected at least one model of the suite"),
        ("lm_eval", r"here: probes\[0\]: lm_eval: got no task, expected one, such as `lm_eval:\.\.\.`\."),
    ],
)
def test_wrong_entries(tmp_path: Path, entry: Any, message: str) -> None:
    """Each mistake is one line that names the place."""
    with pytest.raises(UsageError, match=f"^{message}"):
        read_probes("here", [entry], tmp_path, MODELS[1:] if entry == "lm_eval" else MODELS)


def test_no_probe_at_all(tmp_path: Path) -> None:
    """A suite asks something, and each of its models something."""
    with pytest.raises(UsageError, match=r"^here: probes: got \[\], expected at least one probe"):
        read_probes("here", [], tmp_path, MODELS)
    text = 'schema = 1\nmodels = ["tiny-encoder", "tiny-decoder"]\nprobes = [{probe = "facts", models = "tiny-encoder"}]\n'
    with pytest.raises(UsageError, match=r"probes: got none for 'tiny-decoder', expected at least one\."):
        read(tmp_path, text, "one")
