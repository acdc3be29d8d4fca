"""Files and data sets that a suite names for calibration: whole where they are read, short in ids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from suite_files import read, write

from pytest_kick.baseline.fingerprint import _asked
from pytest_kick.compress.inputs import calibration_of
from pytest_kick.errors import SuiteError
from pytest_kick.suite import read_suites

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 'schema = 1\nmodels = ["tiny-decoder"]\ndense = false\n'


def entry(source: str, method: str = "wanda", level: str = "sparsity = 0.5") -> str:
    """Return an entry of a suite with a source of calibration data."""
    return f'[[compressions]]\nmethod = "{method}"\n{level}\nsource = {source}\n'


def test_ids_hold_the_stem_of_a_file_and_its_path_is_resolved(tmp_path: Path) -> None:
    """A file beside the suite is found by its absolute path; neither the id nor what the fingerprint asks for depends on where it lies."""
    (case,) = read(tmp_path, HEAD + entry('"path:../texts/my.wiki-2.txt"')).cases
    assert case.cell == "wanda--overall--s0.5--source-my.wiki-2"
    (step,) = case.compression.steps
    assert calibration_of(step).source == f"path:{tmp_path / 'texts' / 'my.wiki-2.txt'}"
    assert str(tmp_path) not in str(_asked(step))
    assert _asked(step)["params"]["source"] == "my.wiki-2"


def test_a_data_set_has_a_name_made_safe(tmp_path: Path) -> None:
    """Id, configuration and split stand in the cell's id without the characters that file names cannot hold; in lists and chains too."""
    sources = '["datasets:allenai/c4#en@train", "datasets:wiki", "shipped", "path:a.jsonl"]'
    cases = read(tmp_path, HEAD + entry(sources)).cases
    assert [case.cell.partition("--s0.5")[2] for case in cases] == ["--source-allenai_c4_en_train", "--source-wiki", "", "--source-a"]
    assert calibration_of(cases[0].compression.steps[0]).source == "datasets:allenai/c4#en@train"
    chain = '[[compressions]]\nchain = [{ method = "rtn", bits = 4 }, { method = "gptq", bits = 3, source = "path:a.txt" }]\n'
    (case,) = read(tmp_path, HEAD + chain).cases
    assert case.cell == "rtn--overall--b4+gptq--overall--b3--source-a"
    assert calibration_of(case.compression.steps[1]).source == f"path:{tmp_path / 'suites' / 'a.txt'}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('"wikitext"', "source: got 'wikitext', expected one of shipped, statements, model, path:NAME, datasets:NAME. Correct it."),
        ('"path:"', "source: got 'path:', expected a file or data set with a name of at most 100 letters"),
        ('"datasets:"', "source: got 'datasets:', expected a file or data set"),
        ('"datasets:///"', "source: got 'datasets:///', expected a file or data set"),
        ('"path:my text.txt"', "my text.txt', expected a file or data set with a name of at most 100 letters"),
        ('"path:shipped.txt"', "shipped.txt', expected another name than shipped, statements, model. Rename the file."),
        ('"hub:org/set"', "source: got 'hub:org/set', expected one of shipped"),
        ("3", "source: got 3, expected one of shipped"),
    ],
)
def test_bad_sources_are_refused_in_one_line(tmp_path: Path, source: str, message: str) -> None:
    """A source that is none, or that could not stand in an id, is a mistake of the suite."""
    with pytest.raises(SuiteError, match=r"^suites/a\.toml: compressions\[0\]: source: got .*\.$") as caught:
        read(tmp_path, HEAD + entry(source))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """They would share stored runs: in one suite, in two, and where a data set's short name is that of a file."""
    here = re.escape("suites/a.toml: source: got 'text', which is another one in ")
    for first, second in (("path:x/text.txt", "path:y/text.txt"), ("path:text.txt", "datasets:text")):
        write(tmp_path, HEAD + entry(f'"{first}"') + entry(f'"{second}"', "gptq", "bits = 4"))
        with pytest.raises(SuiteError, match=here):
            read_suites(tmp_path / "suites")
    write(tmp_path, HEAD + entry('"path:x/text.txt"'))
    write(tmp_path, HEAD + entry('"path:y/text.txt"', "gptq", "bits = 4"), "b")
    with pytest.raises(SuiteError, match=r"suites/b\.toml: source: got 'text', which is another one in .*a\.toml, expected unique names"):
        read_suites(tmp_path / "suites")
    write(tmp_path, HEAD + entry('"path:../suites/x/text.txt"', "gptq", "bits = 4"), "b")
    assert len(read_suites(tmp_path / "suites")) == 2
