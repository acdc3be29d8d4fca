"""Suites side by side: ids and baselines go by name, so what is called alike must be one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.errors import SuiteError
from pytest_kick.references import references
from pytest_kick.series import brought

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kick.suite import Suite


def check_together(suites: Iterable[Suite]) -> None:
    """Check that suites can run side by side: what is called alike must be one thing, since ids and baselines go by name.

    Raises:
        SuiteError: two suites share a name; or one name is used for two models, or for two files or data sets; or one shelf for
            different facts.
    """
    seen: dict[tuple[str, str], tuple[object, Suite]] = {}
    for suite in suites:
        named: dict[tuple[tuple[str, str], object], None] = {(("name", suite.name), suite.path): None}
        for case in suite.cases:
            named[("models", case.model.name), case.model] = None
            named[("facts", case.shelf), case.facts] = None
            named |= {(("probes", f"{case.shelf}--{spec.id}"), spec): None for spec in case.probe_specs}
            named |= {(("source", name), thing): None for name, thing in references(case.compression)}
            named |= {(("compressions", f"{case.shelf}--{name}"), path): None for name, path in brought(case.compression)}
        for (field, name), thing in named:
            first, other = seen.setdefault((field, name), (thing, suite))
            if first != thing:
                msg = f"{suite.path}: {field}: got {name!r}, which is another one in {other.path}, expected unique names. Rename one."
                raise SuiteError(msg)
