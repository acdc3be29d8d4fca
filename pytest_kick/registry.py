"""Names of methods and probes, known without importing what implements them.

A suite is validated before torch is imported: everything that validation asks (does this method exist, what kind of level does
it take, which parameters, which families) stands in the tables here. The code itself is imported when it is first run.
Other packages add methods and probes by the entry-point groups `pytest_kick.methods` and `pytest_kick.probes`; an entry point
resolves to a `MethodInfo` or `ProbeInfo`, whose `target` names the code in turn, or to what `pytest_kick.method` or
`pytest_kick.probe` decorates.
"""

from __future__ import annotations

import difflib
import importlib
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pytest_kick.errors import UnknownNameError, UsageError
from pytest_kick.infos import MethodInfo, ProbeInfo
from pytest_kick.methods import BUILTIN_METHODS
from pytest_kick.probe_infos import BUILTIN_PROBES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]*")  # stands in ids between '--' and '+'


Info = TypeVar("Info", MethodInfo, ProbeInfo)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant: `Did you mean 'x'?` or the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."


class Registry(Generic[Info]):
    """Map names to `MethodInfo` or `ProbeInfo`; entry points of other packages are looked up on the first miss."""

    def __init__(self, kind: str, group: str, builtin: Iterable[Info]) -> None:
        """Hold the built-in entries of one `kind` (the word used in errors) and the entry-point `group`.

        `plugins` are the names of the files that were imported for what they register.
        """
        self.kind = kind
        self.group = group
        self.builtin = frozenset(info.name for info in builtin)
        self.plugins: set[str] = set()
        self._known: dict[str, Info] = {info.name: info for info in builtin}
        self._looked_up = False

    def __iter__(self) -> Iterator[Info]:
        """Iterate over all entries, those of other packages included, by name."""
        self._look_up()
        return iter(sorted(self._known.values(), key=lambda info: info.name))

    def known(self) -> tuple[Info, ...]:
        """Return the entries known so far, without looking at other packages."""
        return tuple(self._known.values())

    def snapshot(self) -> Callable[[], None]:
        """Return what brings the entries of this moment back: a run leaves nothing to the next one of its process."""
        known, plugins, looked_up = dict(self._known), set(self.plugins), self._looked_up

        def restore() -> None:
            self._known.clear()  # in place: whoever holds the table sees what was taken out of it
            self._known.update(known)
            self.plugins, self._looked_up = plugins, looked_up

        return restore

    def register(self, info: Info, *, replace: bool = False) -> None:
        """Add an entry, or put it in the place of another one.

        Raises:
            UsageError: the name is taken by another entry, or cannot stand in an id.
        """
        if not _NAME.fullmatch(info.name):
            msg = f"{self.kind} {info.name!r}: name: got {info.name!r}, expected letters, digits, '_' and '.' only. Rename it."
            raise UsageError(msg)
        if not replace and self._known.get(info.name, info) != info:
            msg = f"{self.kind} {info.name!r}: name: got a second {self.kind} of this name, expected unique names. Rename one."
            raise UsageError(msg)
        self._known[info.name] = info

    def get(self, name: object, where: str) -> Info:
        """Return the entry called `name`.

        Args:
            name: the name to look up, as a suite gives it: not a string is an error too.
            where: what an error names as the place of the name, such as `suites/a.toml: compressions[0]`.

        Raises:
            UnknownNameError: no such name; with a near match, or the list of what is known.
        """
        if isinstance(name, str) and name not in self._known:
            self._look_up()
        if not isinstance(name, str) or name not in self._known:
            msg = f"{where}: {self.kind}: got {name!r}, expected a known {self.kind}. {did_you_mean(str(name), self._known)}"
            raise UnknownNameError(msg)
        return self._known[name]

    def find(self, name: str) -> Info | None:
        """Return the entry called `name`, those of other packages included, or None."""
        if name not in self._known:
            self._look_up()
        return self._known.get(name)

    def _look_up(self) -> None:
        if self._looked_up:
            return
        self._looked_up = True
        for point in metadata.entry_points(group=self.group):
            self.register(self._loaded(point))

    def _loaded(self, point: metadata.EntryPoint) -> Info:
        """Load one entry point; whatever another package raises is told in one line that names it."""
        try:
            info = point.load()
            info = getattr(info, f"kick_{self.kind}", info)
        except Exception as error:  # noqa: BLE001 - code of other packages may raise anything
            info = f"{type(error).__name__}: {error}"
        expected = ProbeInfo if self.kind == "probe" else MethodInfo
        if not isinstance(info, expected):
            where = f"entry point {point.name!r} of {self.group} ({point.value})"
            got = " ".join(str(info).split())
            msg = f"{where}: {self.kind}: got {got}, expected a {expected.__name__}. Update or uninstall its package."
            raise UsageError(msg)
        return cast("Info", info)


def load_target(target: str) -> Any:  # noqa: ANN401 - what a target is depends on the table it stands in
    """Import `module:attribute`."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


METHODS: Registry[MethodInfo] = Registry("method", "pytest_kick.methods", BUILTIN_METHODS)

PROBES: Registry[ProbeInfo] = Registry("probe", "pytest_kick.probes", BUILTIN_PROBES)
