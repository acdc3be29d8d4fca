"""Logits in float32, only where they are scored.

In bfloat16 neighbouring logits collapse into ties; so the final vocabulary layer is computed in float32 from the hidden state.
Everything a model does around that layer (Gemma's soft cap, Cohere's scaling, BERT's transform) stays, since only the layer's own
`forward` is exchanged for the length of one call.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_kick.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kick.models.loaded import LoadedModel


class ScoredHead:
    """Run a model so that its vocabulary layer sees the scored positions alone."""

    def __init__(self, model: LoadedModel) -> None:
        """Take the weights as they are now; make a new one after they change.

        Raises:
            ProbeError: the model has no vocabulary layer.
        """
        head = model.module.get_output_embeddings()  # type: ignore[no-untyped-call]
        if not isinstance(head, nn.Module):
            msg = f"probe facts: model {model.name!r}: got no vocabulary layer, expected a language model. Choose another model."
            raise ProbeError(msg)
        self._module: nn.Module = model.module
        self._head = head
        self._weights: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._narrow = False  # whether the float32 copies hold bfloat16 values, whose products stay exact
        if type(head) is nn.Linear and type(head.weight) is nn.Parameter and type(head.weight.data) is torch.Tensor:
            # Packed weights keep their own kernel, activations quantized included; their result is lifted to float32.
            self._weights = (head.weight.float(), None if head.bias is None else head.bias.float())
            self._narrow = head.weight.dtype is torch.bfloat16
        self._buffer = torch.empty(0)

    def rows_gone(self) -> torch.Tensor | None:
        """Return `(vocabulary,)` bool: rows that are zero throughout, whose logit is their bias; None where there is none."""
        if self._weights is None:
            return None
        gone = (self._weights[0] == 0).all(1)
        return gone if bool(gone.any()) else None

    def run(self, scored: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, Any]:  # noqa: ANN401 - what a model takes and returns
        """Call the model.

        Args:
            scored: `(M,)` int64 positions in the flattened `(batch, length)`.
            inputs: of the model's own forward.

        Returns:
            Logits `(M, vocabulary)` float32, good until the next call, and the model's whole output.
        """
        own = self._head.forward

        def forward(hidden: torch.Tensor) -> torch.Tensor:
            rows = hidden.reshape(-1, hidden.shape[-1])[scored]
            if self._weights is None:
                logits: torch.Tensor = own(rows).float()
            else:
                logits = self._product(rows, *self._weights)
            return logits[None]

        self._head.forward = forward
        try:
            output = self._module(**inputs)
        finally:
            del self._head.forward  # the class's own method shows again
        return output.logits[0], output

    def _product(self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        # Fresh memory for hundreds of megabytes costs a third of the product: one buffer serves all calls.
        n, vocabulary = len(rows), len(weight)
        if self._buffer.numel() < n * vocabulary:
            self._buffer = torch.empty(n * vocabulary, device=weight.device)
        out = self._buffer[: n * vocabulary].view(n, vocabulary)
        with _bfloat16_products() if self._narrow and rows.dtype is torch.bfloat16 else nullcontext():
            if bias is None:
                return torch.mm(rows.float(), weight.T, out=out)
            return torch.addmm(bias, rows.float(), weight.T, out=out)


@contextmanager
def _bfloat16_products() -> Iterator[None]:
    """Let the CPU multiply float32 matrices as bfloat16, summed in float32: exact where both hold bfloat16 values, and faster."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None or not hasattr(matmul, "fp32_precision"):  # an older torch
        yield
        return
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
