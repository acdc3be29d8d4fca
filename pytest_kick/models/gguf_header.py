"""What a GGUF file says of itself besides values: its tokens, and how many bits each tensor takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedModel

_BYTE = 8
_MAGIC = b"GGUF"
_START = 24  # bytes of a file before its first key: magic, version, number of tensors, number of keys
_TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Hold it.

    Attributes:
        architecture: in GGUF's own words, such as `llama`.
        tokens: by id; empty where the file brings no tokenizer.
        sizes: name of a tensor, in GGUF's own words -> (weights, bits of all of them).
    """

    architecture: str
    tokens: tuple[str, ...]
    sizes: Mapping[str, tuple[int, int]]

    def stored(self, module: PreTrainedModel) -> dict[str, tuple[int, float]]:
        """Return (bits of a code, bits of the whole) of each parameter of a model that the file holds."""
        config: Any = module.config
        kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
        names = gguf.get_tensor_name_map(kinds[self.architecture], int(getattr(config, "num_hidden_layers", 0)))
        found: dict[str, tuple[int, float]] = {}
        for name, _ in module.named_parameters():
            n, bits = self.sizes.get(names.get_name(name, (".weight", ".bias")) or "", (0, 0))
            found |= {name: (bits // n, float(bits))} if n else {}
        return found


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file, and see that all tensors lie within it.

    Raises:
        ValueError: it is no GGUF file, or is cut off.
    """
    reader = gguf.GGUFReader(path)
    names = reader.fields["general.architecture"].contents()
    tokens = reader.fields[_TOKENS].contents() if _TOKENS in reader.fields else ()
    sizes = {tensor.name: (int(tensor.n_elements), int(tensor.n_bytes) * _BYTE) for tensor in reader.tensors}
    return Header(architecture=str(names), tokens=tuple(map(str, tokens)), sizes=sizes)


def damage(path: Path) -> str:
    """Say what is wrong with a GGUF file that was not read: a line from its `got` on, or "" where the bytes are all there.

    The reader looks everywhere up to the last tensor, and fails in many ways where the file ends before.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    if not _MAGIC.startswith(start[: len(_MAGIC)]):
        return f"got another kind of file at {path}, expected one that begins with GGUF. Check the path."
    if len(start) == _START and int.from_bytes(start[len(_MAGIC) :][:4], "little") not in gguf.READER_SUPPORTED_VERSIONS:
        return ""  # whole or not, it is one that is not read
    try:
        gguf.GGUFReader(path)
    except Exception:  # noqa: BLE001 - NumPy's, on whatever is missing
        size = f"{path.stat().st_size:,} bytes"
        return f"got a truncated or empty GGUF file of {size} at {path}, expected a whole one. Copy or download it again."
    return ""
