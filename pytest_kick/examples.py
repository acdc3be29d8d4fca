"""Outcomes and scores of the examples of one probe: kept one by one, because every comparison is paired (`docs/verdicts.md`)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_kick.errors import KickError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Hold outcomes and scores of the examples of one probe, in the order of the probe's data.

    Attributes:
        ids: `(n,)` unicode array, unique.
        groups: `(n,)` unicode array: the relation (subject, category) of each example.
        hashes: `(n,)` uint32: content hash of each example (prompt, answer, aliases, answer space).
        arrays: named arrays of length n. Boolean arrays are outcomes that a budget can name (`p1`, `free_p1`, ...); the others are
            scores (`gold_logprob`, `margin`, nats, float16) or answers (`predicted`: int32 index into the answer space, -1 none).
    """

    ids: Array
    groups: Array
    hashes: NDArray[np.uint32]
    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        """Check that all arrays have one length and the ids are unique."""
        n = len(self.ids)
        lengths = {name: len(values) for name, values in {**self.arrays, "groups": self.groups, "hashes": self.hashes}.items()}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            msg = f"examples: arrays: got lengths {wrong}, expected {n} as the ids have. Record the baseline again."
            raise KickError(msg)
        if len(np.unique(self.ids)) != n:
            msg = f"examples: ids: got duplicates among {n}, expected unique ids. Rename the examples."
            raise KickError(msg)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    def is_outcome(self, metric: str) -> bool:
        """Return whether there is a right or wrong per example under `metric`."""
        values = self.arrays.get(metric)
        return values is not None and values.dtype == np.bool_

    def outcome(self, metric: str) -> NDArray[np.bool_]:
        """Return right or wrong per example, `(n,)` bool, under `metric`.

        Raises:
            KickError: no outcome of that name.
        """
        values = self.arrays.get(metric)
        if values is None or not self.is_outcome(metric):
            known = sorted(name for name, array in self.arrays.items() if array.dtype == np.bool_)
            msg = f"examples: metric: got {metric!r}, expected one of {', '.join(known)}. Name one of these in the budget."
            raise KickError(msg)
        return values

    def take(self, index: NDArray[np.intp]) -> Examples:
        """Return the examples at `index`, `(m,)` int, in that order."""
        return Examples(
            ids=self.ids[index],
            groups=self.groups[index],
            hashes=self.hashes[index],
            arrays={name: values[index] for name, values in self.arrays.items()},
        )

    def subset(self, ids: Array) -> Examples:
        """Return the examples named by `ids`, `(m,)` unicode, in that order.

        Raises:
            KickError: an id is not among these examples.
        """
        order = np.argsort(self.ids)
        place = np.searchsorted(self.ids, ids, sorter=order)
        known = np.isin(ids, self.ids)
        if not known.all():
            expected = f"an id of the {len(self)} examples compared with"
            msg = f"examples: ids: got {str(ids[~known][0])!r}, expected {expected}. Record them again."
            raise KickError(msg)
        return self.take(order[place])

    def to_npz(self) -> bytes:
        """Serialize to npz bytes that are equal for equal content."""
        named = {"ids": _encoded(self.ids), "groups": _encoded(self.groups), "hashes": self.hashes}
        named |= {f"a_{name}": self.arrays[name] for name in sorted(self.arrays)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **named)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> Examples:
        """Read what `to_npz` wrote.

        Raises:
            KickError: the bytes are no such archive.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return cls(
                ids=np.char.decode(arrays.pop("ids"), "utf-8"),
                groups=np.char.decode(arrays.pop("groups"), "utf-8"),
                hashes=arrays.pop("hashes"),
                arrays={name.removeprefix("a_"): values for name, values in arrays.items()},
            )
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError) as error:
            msg = f"examples: npz: got unreadable bytes ({type(error).__name__}), expected what this tool wrote. Record it again."
            raise KickError(msg) from error
        except Exception as error:  # zipfile and zlib raise their own types for damaged archives
            msg = f"examples: npz: got a damaged archive ({type(error).__name__}), expected what this tool wrote. Record it again."
            raise KickError(msg) from error


def _encoded(text: Array) -> Array:
    """Return text as UTF-8 bytes: a quarter of numpy's own width."""
    encoded: Array = np.char.encode(text, "utf-8")
    return encoded
