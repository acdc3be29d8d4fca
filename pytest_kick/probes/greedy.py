"""What transformers' `generate` is given: greedy settings, float32 logits where they are read, a watch on them, and where to stop."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from pytest_kick.errors import ProbeError
from pytest_kick.probes.head import ScoredHead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel


def greedy_config(model: LoadedModel, allowed: int) -> GenerationConfig:
    """Return settings that hold nothing of the model's own but the tokens that begin, end and fill."""
    own, tokenizer, config = getattr(model.module, "generation_config", None), model.tokenizer, model.module.config
    ends: set[int] = set()
    for end in (getattr(own, "eos_token_id", None), tokenizer.eos_token_id):
        ends |= {int(token) for token in (end if isinstance(end, (list, tuple)) else (end,)) if token is not None}
    start = getattr(own, "decoder_start_token_id", None)
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        max_new_tokens=allowed,
        use_cache=True,
        disable_compile=True,
        eos_token_id=sorted(ends) or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0),
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=start if start is not None else getattr(config, "decoder_start_token_id", None),
    )


@contextmanager
def only_settings(module: Any, config: GenerationConfig) -> Iterator[None]:  # noqa: ANN401 - any model
    """Put the model's own settings aside: transformers fills whatever ours leave open from them, a repetition penalty included."""
    before = module.generation_config
    module.generation_config = config
    try:
        yield
    finally:
        module.generation_config = before


class LastHead(ScoredHead):
    """Compute float32 logits at the last position of each row alone."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Exchange the vocabulary layer's `forward` for as long as something generates."""
        own = self._head.forward

        def forward(hidden: torch.Tensor) -> torch.Tensor:
            rows = hidden[:, -1]
            logits: torch.Tensor = own(rows).float() if self._weights is None else self._product(rows, *self._weights)
            return logits[:, None]

        self._head.forward = forward
        try:
            yield
        finally:
            del self._head.forward  # the class's own method shows again


class Watch(LogitsProcessor):
    """Note whether all logits were finite and how close the second came, without waiting for the device at each step."""

    def __init__(self) -> None:
        """Start with no step seen."""
        self._finite: list[torch.Tensor] = []
        self._gaps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the logits `(B, vocabulary)` as they are."""
        del input_ids
        self._finite.append(torch.isfinite(scores).all())
        top = scores.topk(2, -1).values
        self._gaps.append(top[:, 0] - top[:, 1])
        return scores

    def gaps(self, name: str) -> NDArray[np.float32]:
        """Return `(B, T)` the distance between the first and the second token at each step, nats.

        Raises:
            ProbeError: a logit was not finite.
        """
        if not bool(torch.stack(self._finite).all()):
            msg = f"generation: model {name!r}: got NaN or infinite logits, expected finite ones. The compression or the dtype broke it."
            raise ProbeError(msg)
        found: NDArray[np.float32] = torch.stack(self._gaps, 1).cpu().numpy()
        return found


class Stop(StoppingCriteria):
    """End a row once its continuation holds a stop string; `lengths` are the tokens it took, 0 where none came."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], start: int, rows: int) -> None:  # noqa: ANN401 - any tokenizer
        """Take the stop strings, the place where continuations start, and how many rows there are."""
        self._tokenizer, self._stop, self._start = tokenizer, stop, start
        # A token is at least one byte long: that many hold any stop string, wherever it begins.
        self._window = max((len(mark.encode()) for mark in stop), default=0) + 1
        self.lengths = np.zeros(rows, np.int64)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ANN401 - unused
        """Return `(B,)` bool whether each row has ended."""
        del scores
        new = input_ids[:, self._start :]
        texts = self._tokenizer.batch_decode(new[:, -self._window :].cpu(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        hit = np.asarray([any(mark in text for mark in self._stop) for text in texts])
        self.lengths = np.where(hit & (self.lengths == 0), new.shape[1], self.lengths)
        return torch.from_numpy(self.lengths > 0).to(input_ids.device)
