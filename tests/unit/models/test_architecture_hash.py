"""What a model computes depends on its configuration too: it has a hash of its own, and a changed one makes stored runs stale."""

from __future__ import annotations

import torch
from tiny_models import make_module, make_tokenizer

from pytest_kick.models.hashing import architecture_hash
from pytest_kick.models.loaded import LoadedModel


def test_a_changed_setting_changes_the_hash() -> None:
    """The same weights under another normalisation constant are another model; its name and dtype on disk are not."""
    module = make_module("llama")
    names = dict(module.named_parameters(remove_duplicate=False))
    before = architecture_hash(module, names)
    assert architecture_hash(make_module("llama"), names) == before
    module.config.name_or_path = "elsewhere"
    module.config.use_cache = not module.config.use_cache
    assert architecture_hash(module, names) == before
    module.config.rms_norm_eps *= 10
    assert architecture_hash(module, names) != before


def test_stored_buffers_count() -> None:
    """A buffer that checkpoints store decides the output as a parameter does."""
    module = make_module("llama")
    names = dict(module.named_parameters(remove_duplicate=False))
    before = architecture_hash(module, names)
    module.register_buffer("offset", module.lm_head.weight[0].detach().clone())
    with_buffer = architecture_hash(module, names)
    module.offset += 1
    assert len({before, with_buffer, architecture_hash(module, names)}) == 3


def test_the_dtype_of_a_cell_does_not_change_the_hash() -> None:
    """A worker that begins with a bfloat16 cell of a model with stored buffers (BART has one) sees the same architecture."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        module = make_module("llama")
        module.register_buffer("offset", module.lm_head.weight[0].detach().clone())
        model = LoadedModel(name="m", family="decoder", module=module, tokenizer=make_tokenizer())
        model.cast_(dtype)
        assert model.module.offset.dtype == dtype
        found.append(model.architecture_hash)
    assert found[0] == found[1]
