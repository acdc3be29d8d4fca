"""The directory of stored runs: one JSON and one npz per cell and dtype, replaced atomically."""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_kick.baseline import codec
from pytest_kick.baseline.files import json_bytes, replace_all
from pytest_kick.baseline.record import SCHEMA, Baseline, from_document, measured_the_same, to_document, with_stored
from pytest_kick.errors import BaselineError, KickError, MissingBaselineError, UsageError
from pytest_kick.examples import Examples
from pytest_kick.result import PROBE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_kick.result import Measurement

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_AGAIN = "Restore the file from version control or record the cell again with --kick-update"
Key = tuple[str, str, str]


class BaselineStore:
    """Read and write stored runs under one directory.

    `<root>/<model>/<dtype>/<cell>.json` is what a reviewer reads; `<cell>.npz` beside it holds the outcomes of each example.
    What identifies the examples is shared by the cells of a model: `<root>/<model>/<probe>-<digest>.npz`.
    """

    def __init__(self, root: Path) -> None:
        """Use `root`, which need not exist yet."""
        self.root = root
        self._identities: dict[Path, dict[str, NDArray[Any]]] = {}

    def path(self, model: str, dtype: str, cell: str) -> Path:
        """Return where the JSON of a cell lies.

        Raises:
            BaselineError: a part is no plain file name, such as one that would leave the directory.
        """
        for kind, part in (("model", model), ("dtype", dtype), ("cell", cell)):
            if not _PART.fullmatch(part):
                msg = f"baseline: {kind}: got {part!r}, expected a plain file name. Rename the {kind}."
                raise BaselineError(msg)
        return self.root / model / dtype / f"{cell}.json"

    def check_writable(self) -> None:
        """Check, before anything is measured, that there is a place to write to; nothing is written.

        Raises:
            UsageError: the directory, or the first above it that exists, is none, or cannot be written.
        """
        above = next(path for path in (self.root, *self.root.parents) if path.exists())
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            msg = f"--kick-baselines: {self.root}: got {above}, which is no writable directory, expected one to record in. Choose another."
            raise UsageError(msg)

    def has(self, model: str, dtype: str, cell: str) -> bool:
        """Return whether a cell has been recorded."""
        return self.path(model, dtype, cell).is_file()

    def lacking(self, model: str, dtype: str, cell: str, probes: Iterable[str]) -> tuple[str, ...]:
        """Return which of some probes a stored run does not have; all of them where there is none, none where it does not read."""
        if not self.has(model, dtype, cell):
            return tuple(probes)
        try:
            known = json.loads(self.path(model, dtype, cell).read_bytes())["probes"].keys()
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return ()
        return tuple(probe for probe in probes if probe not in known)

    def cells(self, model: str, dtype: str) -> list[str]:
        """Return the ids of the recorded cells of a model, sorted."""
        return sorted(path.name.removesuffix(".json") for path in self.path(model, dtype, "dense").parent.glob("*.json"))

    def missing(self, model: str, dtype: str, cell: str, command: str = "") -> str:
        """Return the message for a cell that has not been recorded; `command` is what records it."""
        fix = f"Record it: {command}" if command else "Record it with --kick-update"
        return f"{self.path(model, dtype, cell)}: baseline: got none (missing), expected the stored run of this cell. {fix}"

    def seconds(self, model: str, dtype: str, cell: str, *, probes: Collection[str] = (), asked: int = 0) -> float | None:
        """Return how long a cell should take by its stored run, or None where that is not known; cheap, and never an error.

        A stored run holds the time of all its probes together: those that are asked take their part of it by the tokens they computed.

        Args:
            model: name of the model.
            dtype: of the forward pass.
            cell: id of the cell.
            probes: those that will be asked; all that are stored where it is empty.
            asked: number of examples that each will be asked at most, 0 for all.
        """
        try:
            document = json.loads(self.path(model, dtype, cell).read_bytes())
            phases, stored = document["timing"]["seconds"], document["probes"]
            tokens = {name: probe["work"].get("tokens", 0.0) or 1.0 for name, probe in stored.items()}
            shares = {name: min(1.0, asked / probe["n"]) if asked else 1.0 for name, probe in stored.items()}
            now = sum(tokens[name] * shares[name] for name in stored if not probes or name in probes)
            return float(sum(phases.values()) - (1 - now / sum(tokens.values())) * phases.get("evaluate", 0.0))
        except (OSError, ValueError, ArithmeticError, RecursionError, KeyError, TypeError, AttributeError):
            return None

    def read(self, model: str, dtype: str, cell: str, *, command: str = "") -> Baseline:
        """Read the stored run of a cell.

        Args:
            model: name of the model.
            dtype: of the forward pass.
            cell: id of the cell, `dense` for the uncompressed model.
            command: what records it, for the message where it is missing.

        Raises:
            MissingBaselineError: it has not been recorded.
            BaselineError: a file is damaged, of another schema, or belongs to another cell.
        """
        path = self.path(model, dtype, cell)
        if not path.is_file():
            raise MissingBaselineError(self.missing(model, dtype, cell, command))
        document = self._document(path)
        for name, wanted in (("model", model), ("dtype", dtype), ("cell", cell)):
            if document.get(name) != wanted:
                msg = f"{path}: {name}: got {document.get(name)!r}, expected {wanted!r}: this is another baseline. {_AGAIN}."
                raise BaselineError(msg)
        npz = path.with_suffix(".npz")
        arrays = _read(npz)
        if hashlib.sha256(arrays).hexdigest() != document.get("arrays_sha256"):
            msg = f"{npz}: sha256: got another than {path.name} names, expected the same. {_AGAIN}."
            raise BaselineError(msg)
        try:
            return from_document(document, self._examples(path, document, arrays))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            detail = " ".join(str(error).split())
            msg = f"{path}: content: got what does not fit ({type(error).__name__}: {detail}), expected schema {SCHEMA}. {_AGAIN}."
            raise BaselineError(msg) from error

    def write(
        self,
        measurement: Measurement,
        model: str,
        *,
        recorded: str = "",
    ) -> bool:
        """Record a measurement; files are left as they are where it measured the same as they hold, and so are scores of other probes.

        A noise floor that stands and was not measured again is kept as long as the model and the probe's blocking fields agree.

        Args:
            measurement: what was measured, on all examples.
            model: name of the model.
            recorded: ISO date; today (UTC) where it is empty.

        Returns:
            Whether anything was written.

        Raises:
            BaselineError: a name is not usable, a number is not finite, or the files cannot be written; old files stay as they were.
        """
        path = self.path(model, measurement.dtype, measurement.cell)
        old = self._standing(path)
        if old and not old["probes"].keys() <= set(measurement.probes):
            measurement = with_stored(measurement, self.read(model, measurement.dtype, measurement.cell))
        sorted_examples = {score.probe: codec.canonical(score.examples) for score in measurement.scores}
        arrays = codec.pack_outcomes(sorted_examples, str(path))
        identities = {probe: codec.pack_identity(examples) for probe, examples in sorted_examples.items()}
        document = to_document(
            measurement,
            model,
            recorded=recorded or datetime.now(UTC).date().isoformat(),
            identities={probe: digest for probe, (digest, _) in identities.items()},
        )
        document["noise_floor"] = _kept_noise(old, document) | dict(measurement.noise_floor)
        document["arrays_sha256"] = hashlib.sha256(arrays).hexdigest()
        try:
            content = json_bytes(document)
        except (ValueError, TypeError) as error:
            msg = f"{path}: value: got something JSON cannot hold ({error}), expected finite numbers. Nothing was recorded."
            raise BaselineError(msg) from error
        shared = [(self._identity_path(model, probe, digest), data) for probe, (digest, data) in identities.items()]
        shared = [(file, data) for file, data in shared if not (file.is_file() and _read(file) == data)]
        if old and measured_the_same(old, json.loads(content)):
            return False
        try:
            # The JSON goes last: it names the others by digest, so a reader notices where only some were replaced.
            replace_all([*shared, (path.with_suffix(".npz"), arrays), (path, content)])
        except OSError as error:
            msg = f"{path}: file: got {error.strerror or error}, expected a place to write to. Free space or correct the permissions."
            raise BaselineError(msg) from error
        return True

    def orphans(self, expected: Collection[Key]) -> list[Path]:
        """Return the files that belong to none of the expected (model, dtype, cell), sorted."""
        wanted = {self.path(*key) for key in expected}
        keep = wanted | {path.with_suffix(".npz") for path in wanted}
        found = {path for pattern in ("*/*/*.json", "*/*/*.npz") for path in self.root.glob(pattern)}
        for path in self.root.glob("*/*.npz"):
            digest = path.stem.rpartition("-")[2].encode()
            # Looked for in the bytes: a JSON that does not parse still names what it needs.
            if not any(digest in cell.read_bytes() for cell in wanted if cell.is_relative_to(path.parent) and cell.is_file()):
                found.add(path)
        return sorted(found - keep)

    def _document(self, path: Path) -> dict[str, Any]:
        """Return the JSON of a cell, its schema checked."""
        try:
            document = json.loads(_read(path))
        except (ValueError, RecursionError) as error:
            msg = f"{path}: JSON: got bytes that do not read ({type(error).__name__}), expected what this tool wrote. {_AGAIN}."
            raise BaselineError(msg) from error
        schema = document.get("schema") if isinstance(document, dict) else None
        if type(schema) is not int or schema < 1:
            msg = f"{path}: schema: got {schema!r}, expected {SCHEMA}: this is no baseline. {_AGAIN}."
            raise BaselineError(msg)
        if schema > SCHEMA:
            msg = f"{path}: schema: got {schema}, expected at most {SCHEMA}: a newer pytest-kick wrote it. Upgrade pytest-kick."
            raise BaselineError(msg)
        content: dict[str, Any] = document
        return content

    def _standing(self, path: Path) -> dict[str, Any] | None:
        """Return the document that stands, or None unless the whole stored run reads."""
        try:
            self.read(path.parent.parent.name, path.parent.name, path.name.removesuffix(".json"))
            return self._document(path)
        except KickError:
            return None

    def _examples(self, path: Path, document: Mapping[str, Any], arrays: bytes) -> dict[str, Examples]:
        identities = {
            probe: self._identity(self._identity_path(document["model"], probe, values["examples"]), values["examples"])
            for probe, values in document["probes"].items()
        }
        lengths = {probe: len(identity["ids"]) for probe, identity in identities.items()}
        outcomes = codec.unpack_outcomes(arrays, lengths, str(path.with_suffix(".npz")))
        return {probe: Examples(**identity, arrays=outcomes[probe]) for probe, identity in identities.items()}

    def _identity(self, path: Path, digest: str) -> dict[str, NDArray[Any]]:
        if path not in self._identities:
            self._identities[path] = codec.unpack_identity(_read(path), digest, str(path))
        return self._identities[path]

    def _identity_path(self, model: str, probe: str, digest: str) -> Path:
        name = f"{probe.replace(':', '_')}-{digest}"  # a colon cannot stand in a file name everywhere
        if not _PART.fullmatch(name):
            msg = f"baseline {model}: examples: got {name!r}, expected a plain file name. {_AGAIN}."
            raise BaselineError(msg)
        return self.root / model / f"{name}.npz"


def _kept_noise(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the noise floors that stand, of probes that asked the same model the same examples."""
    if old is None:
        return {}
    before, now = old["fingerprint"]["blocking"], new["fingerprint"]["blocking"]
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    of_probes = {f"{probe}.{part}" for probe in old["probes"] | new["probes"] for part in PROBE_FIELDS}
    if changed - of_probes:
        return {}
    floors = old["noise_floor"].items()
    same = [probe for probe in new["probes"] if not changed & {f"{probe}.{part}" for part in PROBE_FIELDS}]
    return {probe: floor for probe, floor in floors if probe in same}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: file: got {error.strerror or error}, expected a readable file. {_AGAIN}."
        raise BaselineError(msg) from error
