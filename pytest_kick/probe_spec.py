"""A probe with its parameters, and the id that names it in budgets, stored runs and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kick.registry import PROBES

if TYPE_CHECKING:
    from pytest_kick.infos import Scalar


SAMPLE = "sample"
"""Parameter of every probe: ask a fixed sample of so many examples, whatever the run's seed; some probes have it as one of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """Ask one probe with its parameters.

    Attributes:
        name: a name in `registry.PROBES`.
        params: parameters that differ from the probe's defaults, in the probe's own order; short names for references.
        outside: (parameter, `path:FILE` or `datasets:ID`) of those that name something outside of the suite, paths absolute.
    """

    name: str
    params: tuple[tuple[str, Scalar], ...] = ()
    outside: tuple[tuple[str, str], ...] = ()

    def param(self, name: str) -> Scalar:
        """Return the value of a parameter, the probe's default where none is given."""
        return {**dict(PROBES.get(self.name, "probe").params), **dict(self.params)}[name]

    def named(self, name: str) -> str:
        """Return what a parameter stands for: the file or data set that it names outside of the suite, else its value."""
        return dict(self.outside).get(name) or str(self.param(name))

    @property
    def sample(self) -> int:
        """Return the number of examples of the fixed sample that is asked, 0 for all."""
        own = SAMPLE in dict(PROBES.get(self.name, "probe").params)
        return 0 if own else int(dict(self.params).get(SAMPLE, 0))

    @property
    def id(self) -> str:
        """Return `name[:variant][--param-value...]`: budgets, stored runs and tables name a probe so."""
        variant = PROBES.get(self.name, "probe").variant
        head = f"{self.name}:{dict(self.params)[variant]}" if variant in dict(self.params) else self.name
        return "--".join([head, *(f"{key}-{value}" for key, value in self.params if key != variant)])
