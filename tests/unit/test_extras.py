"""What an environment lacks for a compression, and chains that a format without zero cannot stand in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_kick.compress import compress_
from pytest_kick.errors import CompressionError, SuiteError
from pytest_kick.extras import lacking, lacking_of_probes
from pytest_kick.grid import expand
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.registry import METHODS, PROBES
from pytest_kick.spec import CompressionSpec, CompressionStep


class Untouched:
    """Stand in for a model that nothing asks anything."""


STEP = CompressionStep(method="needy", scope="ffn", level=4)


@pytest.fixture(autouse=True)
def _needy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a method that needs what nobody has."""
    monkeypatch.setitem(METHODS._known, "needy", replace(METHODS.get("rtn", "test"), name="needy", extra="bnb", needs="no_such_module"))


def test_the_line_that_installs_it() -> None:
    """The extra of this package where there is one, else the module itself; nothing where nothing is missing."""
    reason = "needy--ffn--b4: extra: got no module 'no_such_module', expected it for needy. pip install "
    rtn = CompressionStep(method="rtn", scope="ffn", level=4)
    assert lacking(CompressionSpec(steps=(rtn,))) == lacking(CompressionSpec()) == ""
    assert lacking(CompressionSpec(steps=(rtn, STEP))) == reason + "'pytest-kick[bnb]'"
    METHODS._known["needy"] = replace(METHODS.get("needy", "test"), extra="")
    assert lacking(CompressionSpec(steps=(STEP,))) == reason + "no_such_module"


def test_a_probe_may_need_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the probe by its id, and the extra; probes that need nothing say nothing."""
    info = replace(PROBES.get("perplexity", "test"), extra="rouge", needs="no_such_module")
    monkeypatch.setitem(PROBES._known, "perplexity", info)
    asked = (ProbeSpec(name="facts"), ProbeSpec(name="perplexity", params=(("windows", 3),)))
    assert lacking_of_probes(asked[:1]) == ""
    expected = "perplexity--windows-3: extra: got no module 'no_such_module', expected it for perplexity. pip install 'pytest-kick[rouge]'"
    assert lacking_of_probes(asked) == expected


def test_compressing_without_it_is_refused() -> None:
    """Outside of a test session it is an error, before anything is touched."""
    with pytest.raises(CompressionError, match=r"got no module 'no_such_module'"):
        compress_(Untouched(), CompressionSpec(steps=(STEP,)))  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [("l1_global", "hqq"), ("hqq", "l1_global")])
def test_no_pruning_beside_a_format_without_zero(order: tuple[str, str]) -> None:
    """Before it or after it; formats with a zero may stand with pruning."""
    steps = {"l1_global": {"method": "l1_global", "sparsity": 0.2}, "hqq": {"method": "hqq", "bits": 4}}
    with pytest.raises(SuiteError, match=r"^here: chain: got hqq beside l1_global, expected no pruning: .* Take rtn or nf4\.$"):
        expand("here", {"chain": [steps[name] for name in order]})
    assert len(expand("here", {"chain": [steps["l1_global"], {"method": "nf4"}]})) == 1
    assert len(expand("here", {"chain": [steps["hqq"], {"method": "dynamic_int8"}]})) == 1
