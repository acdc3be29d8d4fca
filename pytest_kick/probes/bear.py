"""The probe `bear`: which statement of a closed set does the model find likeliest? For all families alike.

Source: Wiland et al. 2024, BEAR, arXiv 2404.04113. See `docs/probes.md`.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_kick.data_sets.bear import load_bear
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError
from pytest_kick.probes.paraphrase import TemplatesProbe

if TYPE_CHECKING:
    from pytest_kick.probes.context import ProbeContext

ALL = "all"


def make(context: ProbeContext) -> TemplatesProbe:
    """Make the probe for one template of each relation, or for all of them, the first deciding right or wrong.

    Raises:
        DataError: the data are not there or malformed, or no relation has so many templates.
    """
    spec = context.spec
    template = spec.param("template")
    facts = load_bear(DataSource(directory=context.data, offline=context.offline))
    fewest = min(len(relation.templates) for relation in facts.relations.values())
    if template == ALL:
        return TemplatesProbe(spec, facts, range(fewest), statements=True, strict=True)
    scoring = int(template)
    if scoring >= fewest:
        msg = f"probe {spec.id}: template: got {scoring}, expected 0 to {fewest - 1}, or {ALL!r}. Correct it."
        raise DataError(msg)
    relations = {name: replace(relation, scoring=scoring) for name, relation in facts.relations.items()}
    return TemplatesProbe(spec, replace(facts, relations=MappingProxyType(relations)), (scoring,), statements=True)
