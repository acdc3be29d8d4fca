from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from transformers import AutoModelForCausalLM

from pytest_kick.errors import ModelError
from pytest_kick.models.load import load
from pytest_kick.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.spec import ModelSpec

KINDS = ("bert", "albert", "t5", "llama", "llama-untied", "gpt2")
HEADS = {
    "bert": "cls.predictions.decoder.weight",
    "albert": "predictions.decoder.weight",
    "t5": "lm_head.weight",
    "llama": "lm_head.weight",
    "gpt2": "lm_head.weight",
}
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def get(masters: dict[str, Path], spec_of: Callable[[str], ModelSpec]) -> Callable[[str], LoadedModel]:
    """Return a function that loads a kind."""
    return lambda kind: load(spec_of(kind), masters[kind])


def values(model: LoadedModel) -> dict[str, np.ndarray]:
    """Copy all parameters, under all their names."""
    return {name: p.detach().float().numpy().copy() for name, p in model.module.named_parameters(remove_duplicate=False)}


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    """Compare two copies bit for bit."""
    return left.keys() == right.keys() and all(left[name].tobytes() == right[name].tobytes() for name in left)


def logits(model: LoadedModel) -> torch.Tensor:
    """Run the model once."""
    inputs = {"input_ids": IDS, **({"decoder_input_ids": IDS} if model.family == "encoder-decoder" else {})}
    with torch.inference_mode():
        return model.module(**inputs).logits


def matrices(model: LoadedModel) -> list[str]:
    """Return the names of all two-dimensional parameters."""
    return [name for name, parameter in model.module.named_parameters() if parameter.ndim == 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fresh_restores_touched_parameters_bit_for_bit(get: Callable[[str], LoadedModel], kind: str, dtype: torch.dtype) -> None:
    """Whatever was written to touched parameters, fresh_ gives back the values, the ties and the outputs."""
    model = get(kind)
    before, out, layout = values(model), logits(model), [id(p) for p in model.module.parameters()]
    model.touch(matrices(model))
    with torch.no_grad():
        for name in matrices(model):
            model.module.get_parameter(name).mul_(0.5)
    assert not same(before, values(model))
    model.cast_(dtype)
    assert logits(model).dtype == dtype
    model.fresh_()
    assert same(before, values(model))
    assert [id(p) for p in model.module.parameters()] == layout
    assert torch.equal(out, logits(model))


def test_writing_to_touched_parameters_leaves_file_and_dense_values(
    model_dir: Callable[[str], Path], spec_of: Callable[[str], ModelSpec]
) -> None:
    """The memory-mapped file and `dense` keep their values while a cell changes its copy."""
    directory = model_dir("llama")
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).digest()
    model = load(spec_of("llama"), directory)
    name = matrices(model)[1]
    kept = model.dense(name).clone()
    model.touch([name])
    model.module.get_parameter(name).data.zero_()
    assert torch.equal(model.dense(name), kept)
    assert hashlib.sha256((directory / "model.safetensors").read_bytes()).digest() == digest


@pytest.mark.parametrize("kind", HEADS)
def test_touching_a_tied_head_changes_the_embedding_too(get: Callable[[str], LoadedModel], kind: str) -> None:
    """A tie holds through touch: both ends show the change, by either name."""
    model = get(kind)
    model.touch([HEADS[kind]])
    head, embedding = model.module.get_output_embeddings(), model.module.get_input_embeddings()
    head.weight.data.zero_()
    assert not embedding.weight.any()
    model.fresh_()
    assert embedding.weight.any()
    assert head.weight is embedding.weight


@pytest.mark.parametrize("kind", HEADS)
def test_an_untied_head_belongs_to_its_cell(get: Callable[[str], LoadedModel], kind: str) -> None:
    """untie_head_ lets the head change alone, is cast with the rest, and fresh_ ties it again."""
    model = get(kind)
    before = values(model)
    name = model.untie_head_()
    assert name == HEADS[kind]
    model.touch([name])
    head, embedding = model.module.get_output_embeddings(), model.module.get_input_embeddings()
    assert model.module.get_parameter(name) is head.weight
    head.weight.data.zero_()
    assert same({"": before[name]}, {"": embedding.weight.detach().numpy()})
    model.cast_(torch.bfloat16)
    assert head.weight.dtype == embedding.weight.dtype == torch.bfloat16
    model.fresh_()
    assert head.weight is embedding.weight
    assert same(before, values(model))


def test_untying_a_head_that_is_not_tied_changes_nothing(get: Callable[[str], LoadedModel]) -> None:
    """A head with a weight of its own keeps its Parameter and is restored like any other."""
    model = get("llama-untied")
    weight = model.module.lm_head.weight
    assert model.untie_head_() == "lm_head.weight"
    assert model.module.lm_head.weight is weight
    model.touch(["lm_head.weight"])
    weight.data.zero_()
    model.fresh_()
    assert weight.any()


def prune_with_hooks(model: LoadedModel) -> None:
    """Prune as torch.nn.utils does: reparametrize, add hooks."""
    for module in model.module.modules():
        if isinstance(module, nn.Linear):
            prune.l1_unstructured(module, "weight", 0.5)


def parametrize_weights(model: LoadedModel) -> None:
    """Give Linear modules another class."""

    class Half(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight / 2

    model.touch(matrices(model))  # torch sets the original in place, to the value it has
    for module in list(model.module.modules()):
        if isinstance(module, nn.Linear):
            parametrize.register_parametrization(module, "weight", Half())


def replace_modules(model: LoadedModel) -> None:
    """Swap submodules."""
    for name, module in list(model.module.named_modules()):
        if isinstance(module, nn.Linear):
            model.replace_module(name, nn.Linear(module.in_features, module.out_features))


def quantize_by_torchao(model: LoadedModel) -> None:
    """Swap weights for tensor subclasses."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_  # noqa: PLC0415

    with quiet():
        quantize_(model.module, Int8DynamicActivationInt8WeightConfig())


def shadow_forward(model: LoadedModel) -> None:
    """Replace forward methods, add hooks and attributes."""
    for module in model.module.modules():
        if isinstance(module, nn.Linear):
            module.forward = lambda x, module=module: torch.zeros(*x.shape[:-1], module.out_features)
            module.scratch = 1
            model.add_hook(module.register_forward_hook(lambda *_: None))


@pytest.mark.parametrize("change", [prune_with_hooks, parametrize_weights, replace_modules, quantize_by_torchao, shadow_forward])
@pytest.mark.parametrize("kind", ["bert", "t5", "llama"])
def test_fresh_undoes_what_libraries_do_to_modules(
    get: Callable[[str], LoadedModel], kind: str, change: Callable[[LoadedModel], None]
) -> None:
    """Hooks, parametrizations, swapped modules, packed weights and replaced methods are gone after fresh_."""
    model = get(kind)
    before, out = values(model), logits(model)
    tree = [(name, id(module), type(module)) for name, module in model.module.named_modules()]
    change(model)
    assert not torch.equal(out, logits(model))
    model.fresh_()
    assert same(before, values(model))
    assert tree == [(name, id(module), type(module)) for name, module in model.module.named_modules()]
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.module.modules())
    assert torch.equal(out, logits(model))


def test_cast_equals_loading_in_that_dtype(get: Callable[[str], LoadedModel], masters: dict[str, Path]) -> None:
    """A dense model cast to bfloat16 gives the logits of transformers' own bfloat16 model; rotary frequencies stay float32."""
    model = get("llama")
    with quiet():
        other = AutoModelForCausalLM.from_pretrained(masters["llama"], dtype=torch.bfloat16).eval()
    model.cast_(torch.bfloat16)
    with torch.inference_mode():
        assert torch.equal(logits(model), other(IDS).logits)
    assert model.module.model.rotary_emb.inv_freq.dtype == torch.float32


def test_untouched_casts_are_kept_between_cells(get: Callable[[str], LoadedModel]) -> None:
    """The bfloat16 copy of an untouched parameter is made once, and dropped when the dtype changes."""
    model = get("llama")
    names = matrices(model)
    model.touch(names[:2])
    model.cast_(torch.bfloat16)
    first = {name: model.module.get_parameter(name).data_ptr() for name in names}
    model.fresh_()
    model.touch(names[:2])
    model.module.get_parameter(names[0]).data.zero_()
    model.cast_(torch.bfloat16)
    assert first == {name: model.module.get_parameter(name).data_ptr() for name in names}
    assert not model.module.get_parameter(names[0]).any()
    model.fresh_()
    model.cast_(torch.bfloat16)
    assert model.module.get_parameter(names[0]).any()
    model.fresh_()
    model.cast_(torch.float32)
    assert model.dtype == torch.float32
    assert not model._casts


def test_touch_after_the_cast_spares_the_kept_copy(get: Callable[[str], LoadedModel]) -> None:
    """What a cell changes in the forward dtype is its own as well."""
    model = get("llama")
    name = matrices(model)[1]
    model.cast_(torch.bfloat16)
    model.touch([name])
    model.module.get_parameter(name).data.zero_()
    model.fresh_()
    model.cast_(torch.bfloat16)
    assert model.module.get_parameter(name).any()


def test_writing_without_touch_is_an_error_that_names_the_parameter(get: Callable[[str], LoadedModel]) -> None:
    """An in-place change of a parameter that was not touched is noticed by fresh_ and by touch."""
    model = get("llama")
    name = matrices(model)[1]
    with torch.no_grad():
        model.module.get_parameter(name).mul_(2)
    with pytest.raises(ModelError, match=rf"{name}: got a parameter changed in place, expected touch\(\) before"):
        model.touch([name])
    with pytest.raises(ModelError, match=r"changed in place"):
        model.fresh_()


def test_wrong_names_and_orders_are_errors(get: Callable[[str], LoadedModel]) -> None:
    """Unknown parameters and modules get a suggestion; a second cast in a cell is refused."""
    model = get("llama")
    with pytest.raises(ModelError, match=r"parameter: got 'lm_head.wait', expected one it has. Did you mean 'lm_head.weight'"):
        model.touch(["lm_head.wait"])
    with pytest.raises(ModelError, match=r"module: got 'lm_heat', expected a submodule. Did you mean 'lm_head'"):
        model.replace_module("lm_heat", nn.Identity())
    model.cast_(torch.bfloat16)
    with pytest.raises(ModelError, match=r"got a second cast in one cell"):
        model.cast_(torch.bfloat16)


def test_buffers_written_in_place_are_restored(get: Callable[[str], LoadedModel]) -> None:
    """A method that changes a buffer does not reach the next cell."""
    model = get("llama")
    before = model.module.model.rotary_emb.inv_freq.clone()
    model.module.model.rotary_emb.inv_freq.zero_()
    model.fresh_()
    assert torch.equal(before, model.module.model.rotary_emb.inv_freq)


def test_n_total_counts_tied_parameters_once(get: Callable[[str], LoadedModel]) -> None:
    """The tied model has one vocabulary matrix less than the untied one."""
    assert get("llama-untied").n_total - get("llama").n_total == 40 * 16


def test_a_swapped_module_may_be_touched_by_its_own_names(get: Callable[[str], LoadedModel]) -> None:
    """Parameters that a cell brought along are its own already: touch takes their names and leaves them alone."""
    model = get("llama")
    swapped = nn.Sequential(nn.Linear(16, 24))
    model.replace_module("model.layers.0.mlp.up_proj", swapped)
    model.touch(["model.layers.0.mlp.up_proj.0.weight"])
    model.touch(["model.layers.0.mlp.up_proj.weight"])
    assert model.module.model.layers[0].mlp.up_proj is swapped
    model.fresh_()
    assert isinstance(model.module.model.layers[0].mlp.up_proj, nn.Linear)


def test_a_model_without_a_head_cannot_untie_one(get: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that offers no output embeddings is an error that says so."""
    model = get("llama")
    monkeypatch.setattr(model.module, "get_output_embeddings", lambda: None)
    with pytest.raises(ModelError, match=r"head: got none, expected a final vocabulary layer. Choose another scope."):
        model.untie_head_()


def test_parameters_that_must_stay_float32_do(get: Callable[[str], LoadedModel]) -> None:
    """Names that an architecture keeps in float32 are not cast."""
    model = get("llama")
    model.module._keep_in_fp32_modules_strict = {"norm"}
    model.cast_(torch.bfloat16)
    assert model.module.model.norm.weight.dtype == torch.float32
    assert model.module.model.layers[0].input_layernorm.weight.dtype == torch.bfloat16
