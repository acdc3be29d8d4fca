"""Per-example outcomes as small, equal bytes: booleans packed, integers narrow, scores in half precision, float64 in single.

The identity of the examples (ids, groups, content hashes) is the same in every cell of a model and would be two thirds of each
file. It stands in one file beside them, named by its own digest, so that it can never be the wrong one.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pytest_kick.examples import Examples

_HALF_MAX = float(np.finfo(np.float16).max)
_INTEGERS = (np.int8, np.int16, np.int32, np.int64)


def canonical(examples: Examples) -> Examples:
    """Return the examples sorted by id: equal content gives equal bytes, and neighbours compress well."""
    return examples.take(np.argsort(examples.ids))


def pack_identity(examples: Examples) -> tuple[str, bytes]:
    """Return the digest (16 hexadecimal digits) and the npz bytes of ids, groups and content hashes.

    Raises:
        BaselineError: there is no example, or a name holds a NUL.
    """
    if not len(examples) or any("\0" in name for name in [*examples.ids.tolist(), *examples.groups.tolist()]):
        msg = f"baseline: examples: got {len(examples)} or a name with a NUL, expected at least one, named in text. Correct the probe."
        raise BaselineError(msg)
    arrays = {"ids": _text(examples.ids), "groups": _text(examples.groups), "hashes": examples.hashes.astype("<u4")}
    return _identity_digest(arrays), _npz(arrays)


def unpack_identity(data: bytes, digest: str, where: str) -> dict[str, NDArray[Any]]:
    """Read what `pack_identity` wrote: `ids` and `groups` as unicode, `hashes` as uint32.

    Raises:
        BaselineError: the bytes are damaged, or are not those that `digest` names.
    """
    arrays = _load(data, where)
    if arrays.keys() != {"ids", "groups", "hashes"} or _identity_digest(arrays) != digest:
        msg = f"{where}: content: got bytes of another digest, expected {digest}. Restore the file or record the cell again."
        raise BaselineError(msg)
    names = {name: np.array(arrays[name].tobytes().decode().split("\0"), dtype=np.str_) for name in ("ids", "groups")}
    return {**names, "hashes": arrays["hashes"].astype(np.uint32)}


def pack_outcomes(probes: Mapping[str, Examples], where: str) -> bytes:
    """Return the npz bytes of all arrays of all probes, named `probe.array`.

    Raises:
        BaselineError: an array holds NaN, or has a type that is neither boolean, integer nor float.
    """
    packed = {
        f"{probe}.{name}": _packed(values, f"{where}: {probe}.{name}")
        for probe, examples in probes.items()
        for name, values in examples.arrays.items()
    }
    return _npz({name: packed[name] for name in sorted(packed)})


def unpack_outcomes(data: bytes, lengths: Mapping[str, int], where: str) -> dict[str, dict[str, NDArray[Any]]]:
    """Read what `pack_outcomes` wrote: probe -> array name -> bool, int32, float32 or float64 of the probe's length.

    Raises:
        BaselineError: the bytes are damaged, or an array has another length or belongs to no probe.
    """
    probes: dict[str, dict[str, NDArray[Any]]] = {probe: {} for probe in lengths}
    for key, values in _load(data, where).items():
        probe, _, name = key.rpartition(".")
        if probe not in lengths:
            msg = f"{where}: {key}: got an array of an unknown probe, expected {', '.join(lengths)}. Record the cell again."
            raise BaselineError(msg)
        unpacked = _unpacked(values, lengths[probe])
        if unpacked.shape != (lengths[probe],):
            msg = f"{where}: {key}: got shape {unpacked.shape}, expected ({lengths[probe]},). Record the cell again."
            raise BaselineError(msg)
        probes[probe][name] = unpacked
    return probes


def _packed(values: NDArray[Any], where: str) -> NDArray[Any]:
    if values.dtype == np.bool_:
        return np.packbits(values)
    if values.dtype.kind == "i":
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        return values.astype(next(kind for kind in _INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))
    if values.dtype.kind != "f":
        msg = f"{where}: type: got {values.dtype}, expected bool, int or float. Correct the probe."
        raise BaselineError(msg)
    if np.isnan(values).any():
        msg = f"{where}: value: got NaN, expected numbers. A model that yields NaN is an error of the cell: nothing was recorded."
        raise BaselineError(msg)
    if values.dtype == np.float64:  # numbers whose mean is a metric: half precision would be seen in a ratio of means
        return values.astype("<f4")
    half: NDArray[np.float16] = np.clip(values, -_HALF_MAX, _HALF_MAX).astype(np.float16)
    return half


def _unpacked(values: NDArray[Any], n: int) -> NDArray[Any]:
    if values.dtype == np.uint8:
        room = values.ndim == 1 and len(values) == (n + 7) // 8
        return np.unpackbits(values, count=n).astype(np.bool_) if room else values
    if values.dtype.kind == "i":
        return values.astype(np.int64 if values.dtype.itemsize > np.dtype(np.int32).itemsize else np.int32)
    wide = values.dtype.itemsize > np.dtype(np.float16).itemsize
    return values.astype(np.float64 if wide else np.float32)


def _text(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer("\0".join(values.tolist()).encode(), dtype=np.uint8)


def _identity_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    content = hashlib.sha256()
    for name in ("ids", "groups", "hashes"):
        content.update(len(arrays[name].tobytes()).to_bytes(8, "little") + arrays[name].tobytes())
    return content.hexdigest()[:16]


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _load(data: bytes, where: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each raise types of their own for damaged archives
        msg = f"{where}: npz: got bytes that do not read ({type(error).__name__}), expected what this tool wrote. Record it again."
        raise BaselineError(msg) from error
