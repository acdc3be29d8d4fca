"""What makes an example the same example: its content hash, and which examples a seeded sample draws."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def content_hash(*parts: Any) -> int:  # noqa: ANN401 - anything JSON holds
    """Return the first 32 bits of a SHA-256 of all that decides how an example is scored: prompt, answers, options."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big")


def sampled(ids: Sequence[str], groups: Sequence[str], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Return the places of a sample of at most `limit` examples, ascending, stratified by group; all of them for None.

    It depends on ids, groups and seed alone; a smaller sample of the same seed lies inside a larger one.
    """
    if limit is None or limit >= len(ids):
        return np.arange(len(ids))
    strata: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, (name, group) in enumerate(zip(ids, groups, strict=True)):
        strata[group].append((hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest(), place))
    queue = [
        ((rank + 0.5) / len(stratum) if rank else 0.0, drawn, place)
        for stratum in strata.values()
        for rank, (drawn, place) in enumerate(sorted(stratum))
    ]
    return np.sort([place for *_, place in sorted(queue)[:limit]]).astype(np.int64)
