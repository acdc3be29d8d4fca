"""Turn a GGUF file into a directory of float32 safetensors and a tokenizer."""

from __future__ import annotations

import contextlib
import errno
import functools
from typing import TYPE_CHECKING

from pytest_kick.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def convert(gguf: Path, directory: Path, *, family: str, where: str, progress: Callable[[str], None]) -> None:
    """Dequantize a GGUF file by transformers and write it as float32 safetensors with its tokenizer.

    The values are those the GGUF stores, 4-bit ones included: the "dense" model of such a file is its dequantized weights.

    Args:
        gguf: the file.
        directory: an existing directory that receives the model.
        family: `decoder` or `encoder-decoder`.
        where: what errors name as the place.
        progress: called with one line for each stage.

    Raises:
        FetchError: transformers cannot read the file.
        OSError: the disk is full or read-only.
    """
    # Here, because everything else about fetching does without them.
    import torch  # noqa: PLC0415
    from safetensors import SafetensorError  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer  # noqa: PLC0415

    from pytest_kick.models.gguf_header import damage  # noqa: PLC0415
    from pytest_kick.models.quiet import quiet  # noqa: PLC0415

    options = {"gguf_file": gguf.name, "local_files_only": True}
    kind = AutoModelForSeq2SeqLM if family == "encoder-decoder" else AutoModelForCausalLM
    with quiet(), no_bar():
        try:
            progress(f"{where}: dequantizing {gguf.name}")
            model = kind.from_pretrained(gguf.parent, dtype=torch.float32, **options)
            progress(f"{where}: reading the tokenizer")
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
        except Exception as error:
            said = " ".join(str(error).split())
            unread = f"got {type(error).__name__} ({said}), expected a GGUF file that transformers reads. Convert it, and use path:DIR."
            msg = f"{where}: gguf: {damage(gguf) or unread}"
            raise FetchError(msg) from error
        # transformers refuses to save a model that still carries the marks of quantization.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        progress(f"{where}: writing safetensors")
        try:
            model.save_pretrained(directory)
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(errno.EIO, " ".join(str(error).split())) from error
        tokenizer.save_pretrained(directory)


@contextlib.contextmanager
def no_bar() -> Iterator[None]:
    """Silence the progress bar of the GGUF reader inside the block."""
    # The bar of the GGUF reader is tqdm's own: transformers' switch for progress bars does not reach it.
    from transformers import modeling_gguf_pytorch_utils as reader  # noqa: PLC0415

    bar = vars(reader)["tqdm"]
    vars(reader)["tqdm"] = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        vars(reader)["tqdm"] = bar
