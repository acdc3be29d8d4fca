from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

import torch
from safetensors.numpy import load_file
from tiny_models import WORDS, make_module, make_tokenizer

from pytest_kick.models.hashing import tensors_hash, tokenizer_hash
from pytest_kick.models.load import load
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kick.spec import ModelSpec


def test_weights_hash_is_that_of_the_stored_bytes(masters: dict[str, Path], spec_of: Callable[[str], ModelSpec]) -> None:
    """The hash equals one computed from the file with NumPy and hashlib, in name order."""
    stored = load_file(masters["llama"] / "model.safetensors")
    digests = [
        hashlib.blake2b(f"torch.float32{a.shape}".encode() + a.tobytes(), digest_size=16).digest() for _, a in sorted(stored.items())
    ]
    expected = hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
    assert load(spec_of("llama"), masters["llama"]).weights_hash == expected


def test_weights_hash_does_not_see_files(masters: dict[str, Path], spec_of: Callable[[str], ModelSpec], tmp_path: Path) -> None:
    """The same tensors in several shards have the same hash."""
    with quiet():
        make_module("llama").save_pretrained(tmp_path, max_shard_size="4KB")
        make_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert load(spec_of("llama"), tmp_path).weights_hash == load(spec_of("llama"), masters["llama"]).weights_hash


def test_tensors_hash_sees_dtype_shape_value_and_order() -> None:
    """Each of them changes the hash; a scalar and an empty tensor can be hashed."""
    one = torch.arange(6.0)
    groups = [
        [one], [one.reshape(2, 3)], [one.double()], [one + 1], [one, one + 1], [one + 1, one], [torch.tensor(1.0)], [torch.empty(0)], [],
        [one[:3], one[3:]],
    ]  # fmt: skip
    assert len({tensors_hash(group) for group in groups}) == len(groups)
    assert tensors_hash([one.reshape(2, 3).T]) == tensors_hash([one.reshape(2, 3).T.contiguous()])


def test_tokenizer_hash_sees_content_and_not_use() -> None:
    """Another word changes the hash; padding and truncation that a call left behind do not."""
    used = make_tokenizer()
    used(["w1", "w1 w2"], padding=True, truncation=True, max_length=8)
    assert tokenizer_hash(used) == tokenizer_hash(make_tokenizer())
    assert tokenizer_hash(make_tokenizer([*WORDS, "new"])) != tokenizer_hash(make_tokenizer())
    assert tokenizer_hash(make_tokenizer(bos=True)) != tokenizer_hash(make_tokenizer())


def test_prompt_ids_have_bos_where_the_tokenizer_puts_it() -> None:
    """A prompt starts with BOS only for a tokenizer that does so for plain text."""

    def ids(*, bos: bool) -> list[int]:
        model = LoadedModel(name="m", family="decoder", module=make_module("llama"), tokenizer=make_tokenizer(bos=bos))
        return model.prompt_ids("w0 w1")

    assert ids(bos=False) == [5, 6]
    assert ids(bos=True) == [0, 5, 6]


def test_tokenizers_without_a_backend_are_hashed_by_vocabulary() -> None:
    """A tokenizer written in Python has no backend; its vocabulary and special tokens count."""

    class Slow:
        special_tokens_map: ClassVar[dict[str, str]] = {"unk_token": "?"}

        def __init__(self, **vocabulary: int) -> None:
            self.get_vocab = lambda: vocabulary

    assert tokenizer_hash(Slow(a=0, b=1)) == tokenizer_hash(Slow(b=1, a=0)) != tokenizer_hash(Slow(a=1, b=0))
