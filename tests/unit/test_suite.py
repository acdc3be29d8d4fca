from __future__ import annotations

import re
from pathlib import Path

import pytest
from suite_files import CELL, HEAD, read, write

from pytest_kick.errors import KickError, SuiteError
from pytest_kick.infos import ProbeInfo
from pytest_kick.registry import PROBES
from pytest_kick.suite import read_suite, read_suites

SHIPPED = Path(__file__).parents[2] / "suites"
BUDGET = "[[budgets]]\nretention = 0.9\n"


def fails(directory: Path, text: str, name: str = "a") -> str:
    """Return the message that a suite is refused with: one line that opens with the file's place and ends with what to do."""
    with pytest.raises(KickError) as caught:
        read(directory, text, name)
    message = str(caught.value)
    assert "\n" not in message
    assert re.match(rf"suites/{re.escape(name)}\.toml: .*: got .*, expected .*[.?] ?.*[.?]$", message), message
    return message


def test_a_suite_reads(tmp_path: Path) -> None:
    """A suite of two models and one compression has a dense cell and a compressed one for each, model by model."""
    suite = read(tmp_path, 'schema = 1\nsummary = "s"\nmodels = ["tiny-encoder", "tiny-decoder"]\n' + CELL + BUDGET)
    assert [case.id for case in suite.cases] == [
        "a--tiny-encoder--dense",
        "a--tiny-encoder--l1_global--overall--s0.2",
        "a--tiny-decoder--dense",
        "a--tiny-decoder--l1_global--overall--s0.2",
    ]
    assert (suite.name, suite.summary, suite.default, suite.hub) == ("a", "s", True, False)
    assert [len(case.budgets) for case in suite.cases] == [0, 1, 0, 1]


def test_dense_can_be_left_out_and_alone(tmp_path: Path) -> None:
    """`dense = false` leaves the dense cell out; a suite of dense models only is one too."""
    assert [case.cell for case in read(tmp_path, HEAD + "dense = false\n" + CELL).cases] == ["l1_global--overall--s0.2"]
    assert [case.cell for case in read(tmp_path, HEAD).cases] == ["dense"]
    assert "compressions: got [], expected at least one cell" in fails(tmp_path, HEAD + "dense = false\n")


def test_dtypes(tmp_path: Path) -> None:
    """An entry's dtype wins over the suite's, and stands in the id."""
    suite = read(tmp_path, HEAD + 'dtype = "bfloat16"\n' + CELL + '[[compressions]]\nmethod = "dynamic_int8"\ndtype = "float32"\n')
    assert [case.dtype for case in suite.cases] == ["bfloat16", "bfloat16", "float32"]
    assert suite.cases[2].id.endswith("--float32")
    assert "dtype: got 'fp32', expected one of float32, bfloat16." in fails(tmp_path, HEAD + 'dtype = "fp32"\n')


def test_an_id_says_the_dtype_that_runs(tmp_path: Path) -> None:
    """A method that runs in float32 alone is refused in another dtype, its entry's or the suite's; in float32, or in none, it stands."""
    entry = '[[compressions]]\nmethod = "quantize_dynamic"\n'
    chain = '[[compressions]]\nchain = [{ method = "l1_global", sparsity = 0.2 }, { method = "quantize_dynamic" }]\n'
    wrong = "dtype: got 'bfloat16', expected float32 for {}quantize_dynamic--overall--b8. It runs in nothing else: write that in its"
    assert wrong.format("") in fails(tmp_path, HEAD + entry + 'dtype = "bfloat16"\n')
    assert wrong.format("") in fails(tmp_path, HEAD + 'dtype = "bfloat16"\n' + entry)
    assert wrong.format("l1_global--overall--s0.2+") in fails(tmp_path, HEAD + chain + 'dtype = "bfloat16"\n')
    for text in (HEAD + entry, HEAD + entry + 'dtype = "float32"\n', HEAD + 'dtype = "bfloat16"\n' + entry + 'dtype = "float32"\n'):
        assert read(tmp_path, text).cases[1].dtype in {"", "float32"}


def test_filters_of_entries(tmp_path: Path) -> None:
    """`models` and `families` restrict an entry, both together; one that leaves no model is refused."""
    head = 'schema = 1\nmodels = ["tiny-encoder", "tiny-decoder"]\n'
    for line in ('models = "tiny-decoder"', 'families = ["decoder"]', 'models = ["tiny-decoder", "tiny-encoder"]\nfamilies = "decoder"'):
        suite = read(tmp_path, head + CELL + line + "\n")
        assert [case.model.name for case in suite.cases if not case.is_dense] == ["tiny-decoder"]
    for line, message in [
        ('families = ["encoder-decoder"]', "compressions[0]: got {'families': ['encoder-decoder']}, expected at least one model"),
        ('models = "tiny-decoder"\nfamilies = "encoder"', "expected at least one model of the suite"),
        ("models = []", "compressions[0].models: got [], expected at least one name"),
        ('models = "tiny-decodr"', "got 'tiny-decodr', expected one of tiny-encoder, tiny-decoder. Did you mean 'tiny-decoder'?"),
        ('families = ["decodr"]', "Did you mean 'decoder'?"),
        ("families = [1]", "compressions[0].families: got 1"),
    ]:
        assert message in fails(tmp_path, head + CELL + line + "\n")


def test_families_of_scopes_are_checked(tmp_path: Path) -> None:
    """A scope that a family does not have is refused before any model is loaded."""
    message = fails(tmp_path, HEAD + CELL + 'scope = "cross_attention"\n')
    assert "got 'l1_global of cross_attention on tiny-decoder (decoder)', expected a model of family encoder-decoder." in message


def test_models_of_ones_own(tmp_path: Path) -> None:
    """A model of one's own has name, family and source; its path is relative to the suite."""
    table = '{ name = "mine", family = "encoder", source = "path:../mine" }'
    model = read(tmp_path, f"schema = 1\nmodels = [{table}]\n").cases[0].model
    assert model.source == f"path:{tmp_path / 'mine'}"
    assert (model.name, model.family) == ("mine", "encoder")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("[]", "models: got [], expected at least one model."),
        ('"tiny-decoder"', "models: got 'tiny-decoder', expected a list."),
        ('["tiny-decodr"]', "models[0]: got 'tiny-decodr', expected a known model, or a `source`. Did you mean 'tiny-decoder'?"),
        ("[3]", "models[0]: got 3, expected a name of the catalogue or a table"),
        ("[{ name = [1] }]", "models[0]: got {'name': [1]}, expected a name of the catalogue"),
        ("[{ family = 'decoder' }]", "models[0]: got {'family': 'decoder'}, expected a name"),
        ('["tiny-decoder", "tiny-decoder"]', "expected each model once."),
        ('[{ name = "tiny-decoder", family = "encoder" }]', "models[0]: got ['family', 'name'], expected `name` alone, or a `source` too."),
        ('[{ name = "x", famly = "encoder", source = "hub:a/b" }]', "models[0]: got 'famly', expected a known key. Did you mean 'family'?"),
        ('[{ name = "x", family = 1, source = "hub:a/b" }]', "models[0].family: got 1, expected a string."),
        ('[{ name = "x", source = "hub:a/b" }]', "model 'x': family: got '', expected one of encoder"),
        ('[{ name = "../x", family = "decoder", source = "hub:a/b" }]', "models[0]: model: name: got '../x', expected at most 100 letters"),
        ('[{ name = "x", family = "decoder", source = "a/b" }]', "model 'x': source: got 'a/b', expected hub:"),
        ('[{ name = "x", family = "decoder", source = "path:" }]', "model 'x': source: got 'path:', expected hub:"),
    ],
)
def test_wrong_models(tmp_path: Path, models: str, message: str) -> None:
    """Each mistake in the models is one line."""
    assert message in fails(tmp_path, f"schema = 1\nmodels = {models}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "schema: got None, expected 1. Write `schema = 1`, or upgrade pytest-kick."),
        ("schema = 2\nnew_key = 1\n", "schema: got 2, expected 1. Write `schema = 1`, or upgrade pytest-kick."),
        ("schema = true\n", "schema: got True, expected 1."),
        ('schema = "1"\n', "schema: got '1', expected 1."),
        ("schema = 1.0\n", "schema: got 1.0, expected 1."),
        (HEAD + "probs = []\n", "suite: got 'probs', expected a known key. Did you mean 'probes'?"),
        (HEAD + "probes = []\n", "probes: got [], expected at least one probe."),
        (HEAD + 'probes = ["fact"]\n', "probe: got 'fact', expected a known probe. Did you mean 'facts'?"),
        (HEAD + "probes = [1]\n", "probes[0]: got 1, expected a name, or a table with `probe` and its parameters."),
        (HEAD + 'probes = "facts"\n', "probes: got 'facts', expected a list."),
        (HEAD + "default = 1\n", "default: got 1, expected true or false."),
        (HEAD + "hub = 'no'\n", "hub: got 'no', expected true or false."),
        (HEAD + "summary = 1\n", "summary: got 1, expected a string."),
        (HEAD + 'name = "a/b"\n', "name: got 'a/b', expected at most 100 letters"),
        (HEAD + 'name = "a--b"\n', "name: got 'a--b', expected at most 100 letters"),
        (HEAD + 'name = ""\n', "name: got '', expected at most 100 letters"),
        (HEAD + "compressions = 1\n", "compressions: got 1, expected a list."),
        (HEAD + "compressions = [1]\n", "compressions[0]: got 1, expected a table."),
        (HEAD + "[compressions]\n", "compressions: got {}, expected a list."),
        (HEAD + "[[compressions]]\n", "compressions[0]: entry: got [], expected either `method` or `chain`."),
        (HEAD + CELL + CELL, "compressions: got 'a--tiny-decoder--l1_global--overall--s0.2', expected each cell once."),
        (HEAD + CELL.replace("0.2", "[0.2, 0.2]"), "expected each cell once"),
        (HEAD + CELL.replace("0.2", "[]"), "compressions[0]: sparsity: got [], expected at least one value."),
        (HEAD + CELL.replace("0.2", "nan"), "compressions[0]: sparsity: got nan, expected a fraction in [0, 1)."),
        (HEAD + CELL.replace("0.2", "20"), "Write a fraction, such as 0.2, not a percentage."),
        (HEAD + 'facts = "none.jsonl"\n', "facts: got 'none.jsonl', expected a facts file beside the suite."),
        (HEAD + CELL + "[[budgets]]\nretention = nan\n", "budgets[0]: retention: got nan, expected a fraction"),
        (
            HEAD + CELL + '[[budgets]]\nscope = "head"\ndrop = 0.1\n',
            "budgets[0]: got {'scope': ['head']}, expected a match with at least one",
        ),
        (HEAD + CELL + '[[budgets]]\ncell = "dense"\ndrop = 0.1\n', "budgets[0]: got {'cell': ['dense']}, expected a match"),
        (HEAD + BUDGET, "budgets[0]: got {}, expected a match with at least one compressed cell."),
    ],
)
def test_wrong_suites(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake in a suite is one line that names file, field, value, rule and remedy."""
    assert message in fails(tmp_path, text)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01\xff\xfe",
        b"schema = 1\nmodels = [",
        b"schema = 1\nsummary = '\xe9'\n",
        b"schema = 1\nschema = 1\n",
        b"x = " + b"[" * 100_000,
        b"x = " + b"9" * 5000,
        "schema = 1".encode("utf-16"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    """A file that is binary, truncated, not UTF-8, or built to break the parser is one line."""
    path = write(tmp_path, "")
    path.write_bytes(content)
    with pytest.raises(KickError, match=r"^suites/a\.toml: file: got .*, expected a TOML file in UTF-8\. Correct it, or .*$") as caught:
        read_suite(path)
    assert "\n" not in str(caught.value)


def test_a_directory_is_no_suite(tmp_path: Path) -> None:
    """A directory called `x.toml` is one line too, and a missing directory holds no suites."""
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(KickError, match=r"x\.toml: file: got .*directory"):
        read_suites(tmp_path)
    assert read_suites(tmp_path / "none") == ()


def test_long_chains_fit_a_file_name(tmp_path: Path) -> None:
    """A chain whose id would be too long for a file name is refused when it is read, not when it is recorded."""
    step = '{ method = "random_unstructured", scope = "encoder_self_attention", sparsity = 0.125, seed = 123456789 }'
    head = HEAD.replace("tiny-decoder", "tiny-encoder-decoder")
    assert read(tmp_path, f"{head}[[compressions]]\nchain = [{', '.join([step] * 3)}]\n").cases[1].cell.count("+") == 2
    assert "expected ids of at most 240 characters. Shorten the chain." in fails(
        tmp_path, f"{head}[[compressions]]\nchain = [{', '.join([step] * 4)}]\n"
    )


def test_facts_of_ones_own(tmp_path: Path) -> None:
    """A facts file is found beside the suite; one whose name cannot be a directory under `baselines/` is refused."""
    (tmp_path / "suites").mkdir()
    for name in ("capitals.jsonl", "my facts.jsonl"):
        (tmp_path / "suites" / name).touch()
    case = read(tmp_path, HEAD + 'facts = "capitals.jsonl"\n').cases[0]
    assert case.facts == str(tmp_path / "suites" / "capitals.jsonl")
    assert "facts: got 'my facts.jsonl', expected a file name of at most" in fails(tmp_path, HEAD + 'facts = "my facts.jsonl"\n')


def test_a_budget_of_a_probe_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget for a probe that the suite does not run judges nothing: it is refused."""
    other = ProbeInfo(name="other", target="a:b", summary="s", metric="m", metrics=("m",))
    monkeypatch.setattr(PROBES, "_known", {**PROBES._known, "other": other})
    text = HEAD + CELL + '[[budgets]]\nprobe = "other"\ndrop = 0.1\n'
    said = fails(tmp_path, text)
    assert "budgets[0].probe: got 'other', expected a probe that the suite runs: facts. " in said
    assert said.endswith("Name it as `probe` of the budget (`facts` where it names none).")
    assert read(tmp_path, 'probes = ["facts", "other"]\n' + text).cases[1].budgets[0].probe == "other"


def test_suites_go_together(tmp_path: Path) -> None:
    """Two suites of one name, or with one name for two models or facts files, would share baselines: they are refused."""
    mine = '{{ name = "mine", family = "encoder", source = "hub:org/{}" }}'
    write(tmp_path, f"schema = 1\nmodels = [{mine.format('one')}]\n", "a")
    write(tmp_path, f"schema = 1\nmodels = [{mine.format('one')}]\n", "b")
    assert [suite.name for suite in read_suites(tmp_path / "suites")] == ["a", "b"]
    write(tmp_path, f"schema = 1\nmodels = [{mine.format('two')}]\n", "b")
    with pytest.raises(
        KickError, match=r"b\.toml: models: got 'mine', which is another one in .*a\.toml, expected unique names\. Rename one\."
    ):
        read_suites(tmp_path / "suites")
    write(tmp_path, 'name = "a"\n' + HEAD, "b")
    with pytest.raises(KickError, match=r"b\.toml: name: got 'a', which is another one in"):
        read_suites(tmp_path / "suites")
    for folder in ("x", "y"):
        (tmp_path / "suites" / folder).mkdir()
        (tmp_path / "suites" / folder / "f.jsonl").touch()
    write(tmp_path, HEAD + 'facts = "x/f.jsonl"\n', "a")
    write(tmp_path, HEAD + 'facts = "y/f.jsonl"\n', "b")
    with pytest.raises(KickError, match=r"b\.toml: facts: got '[a-z-]+--f', which is another one in"):
        read_suites(tmp_path / "suites")


def test_the_shipped_suites_read() -> None:
    """The suites of this repository are sound: three run by default, the real model's is small, study A's grid is whole."""
    suites = {suite.name: suite for suite in read_suites(SHIPPED)}
    assert {name for name, suite in suites.items() if suite.default} == {"methods", "smollm2", "tiny"}
    assert 16 <= sum(not case.on_request for case in suites["smollm2"].cases) <= 20
    assert suites["cost_of_compression"].hub
    for name in ("tiny-encoder", "tiny-encoder-decoder", "tiny-decoder"):
        pruned = {case.cell for case in suites["tiny"].cases if case.model.name == name}
        for scope in ("attention", "ffn", "overall"):
            assert {f"l1_global--{scope}--s0.{i}" for i in range(1, 10)} <= pruned


def test_a_first_look_shares_the_baselines_of_all_facts(tmp_path: Path) -> None:
    """A suite that asks some facts first is held against the same stored runs as one that asks all; a negative number is refused."""
    text = 'schema = 1\nmodels = ["tiny-encoder"]\n[[compressions]]\nmethod = "dynamic_int8"\n'
    path = tmp_path / "few.toml"
    path.write_text("first_look = 7\n" + text, encoding="utf-8")
    assert {(case.shelf, case.first_look) for case in read_suite(path).cases} == {("tiny-encoder", 7)}
    for value in ('"many"', "true", "100.5"):
        path.write_text(f"first_look = {value}\n" + text, encoding="utf-8")
        with pytest.raises(SuiteError, match=r"first_look: got .*, expected a whole number"):
            read_suite(path)
    path.write_text("first_look = -7\n" + text, encoding="utf-8-sig")  # as some editors save it
    with pytest.raises(SuiteError, match="first_look: got -7, expected a number of facts, 0 for all"):
        read_suite(path)
