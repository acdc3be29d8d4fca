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
