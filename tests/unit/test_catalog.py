from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pytest_kick.catalog import catalog, find_model
from pytest_kick.errors import SuiteError


def test_the_default_models_are_there() -> None:
    """The four models of the default suites have a licence, a summary and a local or hashed source."""
    names = ("smollm2-135m", "tiny-encoder", "tiny-encoder-decoder", "tiny-decoder")
    assert tuple(catalog())[:4] == names
    for name in names:
        spec = catalog()[name]
        assert spec.licence == "Apache-2.0"
        assert spec.summary
        assert spec.source == f"shipped:{name}" or re.fullmatch(r"[0-9a-f]{64}", spec.sha256)


def test_every_entry_is_complete() -> None:
    """Each model has a family, a source, a licence and a one-line summary; all three families have hub models."""
    for name, spec in catalog().items():
        assert spec.name == name
        assert spec.licence
        assert spec.summary
        assert "\n" not in spec.summary
    hub = {spec.family for spec in catalog().values() if spec.source.startswith("hub:")}
    assert hub == {"encoder", "encoder-decoder", "decoder"}


def test_find_model_suggests() -> None:
    """A near miss gets the name that was probably meant."""
    assert find_model("tiny-encoder", "here").family == "encoder"
    with pytest.raises(SuiteError, match=r"a.toml: model: got 'smolm2-135m', expected a known model. Did you mean 'smollm2-135m'\?"):
        find_model("smolm2-135m", "a.toml")


def test_the_catalogue_needs_no_torch() -> None:
    """Reading the catalogue and the instruments imports neither torch nor transformers."""
    code = (
        "import sys, pytest_kick.instruments as i; from pytest_kick.catalog import catalog; catalog(); i.environment(1)\n"
        "sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
