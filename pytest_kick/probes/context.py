"""What a probe is made from: its parameters, and what the run says of facts, data, judge and network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kick.facts import FactSet, load_facts, shipped_facts

if TYPE_CHECKING:
    from pytest_kick.probe_spec import ProbeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeContext:
    """Hold what the maker of a probe may look at.

    Attributes:
        spec: the probe's name and parameters.
        facts: path of the suite's own facts, "" for the shipped ones.
        data: directory of data sets (`--kick-data`), None where none was given.
        cache: directory for what is prepared once.
        offline: never use the network.
        unsafe_code: tasks may run code that a model wrote.
        judge: endpoint and model of the judge, empty for none.
        judge_repeats: how often the same answers are judged.
    """

    spec: ProbeSpec
    facts: str = ""
    data: Path | None = None
    cache: Path = Path(".kick/cache")
    offline: bool = False
    unsafe_code: bool = False
    judge: tuple[str, ...] = ()
    judge_repeats: int = 1

    def fact_set(self) -> FactSet:
        """Return the facts of the suite.

        Raises:
            FactsError: they cannot be read.
        """
        return load_facts(Path(self.facts)) if self.facts else shipped_facts()
