"""Checkpoints are read: what is in them, in whatever format; and what is none of the model, damaged or not trusted is one line."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from packing import packed
from safetensors.torch import load_file, save_file

from pytest_kick.catalog import catalog
from pytest_kick.errors import ModelError
from pytest_kick.models.checkpoint import Checkpoint, Trust, open_checkpoint
from pytest_kick.models.gguf_header import read_header
from pytest_kick.models.load import load
from pytest_kick.models.quiet import quiet
from tools.write_gguf import rotary_order, write_gguf

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel

SHIPPED = Path(__file__).parents[3] / "pytest_kick" / "data" / "models"
UP = "model.layers.1.mlp.up_proj"
EMBEDDING = "model.embed_tokens.weight"


@functools.cache
def loaded(name: str) -> LoadedModel:
    """Load a shipped model once."""
    return load(catalog()[name], SHIPPED / name)


@pytest.fixture
def model() -> LoadedModel:
    """Return the tiny decoder, dense."""
    model = loaded("tiny-decoder")
    model.fresh_()
    return model


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a copy of its directory that the test may change."""
    return shutil.copytree(SHIPPED / "tiny-decoder", tmp_path / "made")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a directory, into memory: the test writes over the file."""
    return {name: tensor.clone() for name, tensor in load_file(path / "model.safetensors").items()}


def write(path: Path, values: dict[str, torch.Tensor]) -> None:
    """Replace the weights of a directory."""
    save_file({name: tensor.contiguous() for name, tensor in values.items()}, path / "model.safetensors", {"format": "pt"})


def configure(path: Path, **changes: Any) -> None:
    """Change the configuration of a directory."""
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), encoding="utf-8")


def opened(path: Path, model: LoadedModel, **trust: bool) -> Checkpoint:
    """Read a checkpoint."""
    return open_checkpoint(path, model, "here", Trust(**trust))


def fails(path: Path, model: LoadedModel, message: str) -> None:
    """Check the one line that a checkpoint is refused with."""
    with pytest.raises(ModelError) as caught:
        opened(path, model)
    text = str(caught.value)
    assert text.startswith("here: ")
    assert ": got " in text
    assert ", expected " in text
    assert "\n" not in text
    assert text[-1] == "."
    assert message in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_float_weights(model: LoadedModel, made: Path, dtype: torch.dtype) -> None:
    """Values of any float dtype are taken as they are; bits are those of the files; ties are kept."""
    values = {name: (tensor * 1.01).to(dtype) for name, tensor in tensors(made).items()}
    write(made, values)
    found = opened(made, model)
    assert all(found.values[name].equal(tensor.float()) for name, tensor in values.items())
    assert found.values["lm_head.weight"].equal(values[EMBEDDING].float())
    assert (found.untied, found.notes, dict(found.activations)) == ((), (), {})
    assert found.widths[f"{UP}.weight"] == dtype.itemsize * 8
    assert found.sizes[f"{UP}.weight"] == 256 * 96 * dtype.itemsize * 8


def test_the_hash_is_of_the_values(model: LoadedModel, made: Path, tmp_path: Path) -> None:
    """Shards, another dtype that holds the values, and another place make no difference; one weight does."""
    values = {name: tensor.bfloat16() for name, tensor in tensors(made).items()}
    write(made, values)
    first = opened(made, model).hash
    moved = made.rename(tmp_path / "moved")
    assert opened(moved, model).hash == first
    (moved / "model.safetensors").unlink()
    names = sorted(values)
    save_file({n: values[n].float() for n in names[:9]}, moved / "model-00001-of-00002.safetensors", {"format": "pt"})
    save_file({n: values[n].float() for n in names[9:]}, moved / "model-00002-of-00002.safetensors", {"format": "pt"})
    index = {n: f"model-0000{1 if n in names[:9] else 2}-of-00002.safetensors" for n in names}
    (moved / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}), encoding="utf-8")
    assert opened(moved, model).hash == first
    values[f"{UP}.weight"][3, 4] += 1
    save_file({n: values[n].float() for n in names[9:]}, moved / "model-00002-of-00002.safetensors", {"format": "pt"})
    assert opened(moved, model).hash != first


def test_a_head_of_its_own(model: LoadedModel, made: Path) -> None:
    """A head that is tied in the dense model and not here is told."""
    values = tensors(made)
    write(made, {**values, "lm_head.weight": values[EMBEDDING] * 2})
    configure(made, tie_word_embeddings=False)
    found = opened(made, model)
    assert found.untied == ("lm_head.weight",)
    assert found.values["lm_head.weight"].equal(values[EMBEDDING] * 2)
    assert found.values[EMBEDDING].equal(values[EMBEDDING])


def test_what_may_differ(model: LoadedModel, made: Path) -> None:
    """Ids of special tokens, dropout, labels and the longest text do not change the forward pass."""
    configure(made, eos_token_id=7, attention_dropout=0.5, max_position_embeddings=4096, id2label={"0": "x"}, use_cache=False)
    assert opened(made, model).notes == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, "config: got rope_parameters"),
        ({"hidden_act": "gelu"}, "config: got hidden_act 'gelu' (dense: 'silu'), expected the architecture of tiny-decoder"),
        ({"num_hidden_layers": 3, "hidden_size": 48, "vocab_size": 9, "head_dim": 12}, "head_dim 12 (dense: 24), hidden_size 48"),
        ({"model_type": "mistral"}, "config: got model_type 'mistral' (dense: 'llama')"),
        ({"model_type": "nonesuch"}, "expected a readable checkpoint"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "config: got auto_map"),
        ({"quantization_config": {"quant_method": "nonesuch"}}, "quantization: got 'nonesuch', expected one of compressed-tensors, gptq"),
        ({"quantization_config": {"quant_method": "awq", "version": "gemv"}}, "quantization: got AWQ of version 'gemv'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"x": {}}}}, "quantization: got `dynamic`"),
        ({"quantization_config": {"quant_method": "gptq"}}, "weights: got KeyError ('bits')"),
    ],
)
def test_other_configurations(model: LoadedModel, made: Path, changes: dict[str, Any], message: str) -> None:
    """Another architecture, another forward pass, code, and quantization that is not read are one line each."""
    configure(made, **changes)
    fails(made, model, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_cache_scheme": {"num_bits": 8}}, "a `kv_cache_scheme`"),
        ({"transform_config": {"config_groups": {}, "x": 1}}, "a `transform_config`"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "the sparse format 'sparse-24-bitmask'"),
        ({"format": "nvfp4-pack-quantized"}, "the format 'nvfp4-pack-quantized'"),
        ({"config_groups": {"g": {"targets": ["Linear"], "output_activations": {"num_bits": 8}}}}, "`output_activations`"),
        ({"config_groups": {"g": {"targets": ["Conv2d"], "weights": {"num_bits": 8}}}}, f"{UP} in no group"),
    ],
)
def test_what_cannot_be_carried_on(model: LoadedModel, made: Path, changes: dict[str, Any], message: str) -> None:
    """What compressed-tensors declares beyond weights and inputs is refused, not left out."""
    values = tensors(made)
    values[f"{UP}.weight_scale"] = torch.ones(256, 1)
    write(made, values)
    groups = {"g": {"targets": ["Linear"], "weights": {"num_bits": 8, "strategy": "channel"}}}
    plain = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": groups}
    configure(made, quantization_config={**plain, **changes})
    fails(made, model, f"quantization: got {message}")


@pytest.mark.parametrize(
    ("scheme", "extra", "message"),
    [
        ({"num_bits": 4, "strategy": "token", "dynamic": True}, False, "activations of 4 bits per token"),
        ({"num_bits": 8, "strategy": "group", "dynamic": True}, False, "activations of 8 bits per group"),
        ({"num_bits": 8, "strategy": "tensor", "dynamic": False}, False, "activations of a fixed step without `input_scale`"),
        ({"num_bits": 8, "strategy": "tensor", "dynamic": False}, True, ""),
    ],
)
def test_rounded_inputs(model: LoadedModel, made: Path, scheme: dict[str, Any], extra: bool, message: str) -> None:
    """Inputs of 8 bits per token, or with a fixed step, are carried on; others are refused."""
    values = tensors(made)
    values |= {f"{UP}.weight": torch.ones(256, 96).to(torch.int8), f"{UP}.weight_scale": torch.full((256, 1), 0.5)}
    values |= {f"{UP}.input_scale": torch.tensor([0.25])} if extra else {}
    write(made, values)
    group = {"targets": ["re:.*up_proj"], "weights": {"num_bits": 8, "strategy": "channel"}, "input_activations": scheme}
    configure(made, quantization_config={"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"g": group}})
    if message:
        fails(made, model, f"quantization: got {message}")
        return
    found = opened(made, model)
    assert found.activations[UP].scale == 0.25
    assert found.values[f"{UP}.weight"].eq(0.5).all()
    assert found.widths[f"{UP}.weight"] == 8


def test_gptq_and_awq_directories(model: LoadedModel, made: Path) -> None:
    """Directories as AutoGPTQ and AutoAWQ write them, one module packed; bits count codes, steps, zero points and the index."""
    rng = np.random.default_rng(2)
    codes, scale = rng.integers(0, 16, (96, 256)), rng.uniform(0.01, 0.02, (3, 256)).astype(np.float16)
    want = torch.tensor(((codes - 8) * scale[np.arange(96) // 32].astype(np.float32)).T.astype(np.float32))
    values = tensors(made)
    del values[f"{UP}.weight"]
    own = {"qweight": packed(codes.T, 4).t(), "qzeros": packed(np.full((3, 256), 7), 4), "scales": torch.tensor(scale)}
    own["g_idx"] = torch.arange(96, dtype=torch.int32) // 32
    write(made, {**values, **{f"{UP}.{name}": tensor for name, tensor in own.items()}})
    configure(made, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True})
    found = opened(made, model)
    assert found.values[f"{UP}.weight"].equal(want)
    assert (found.widths[f"{UP}.weight"], found.sizes[f"{UP}.weight"]) == (4, 256 * 96 * 4 + 3 * 256 * (16 + 4) + 96 * 32)
    order = [start + i for start in range(0, 256, 8) for i in (0, 2, 4, 6, 1, 3, 5, 7)]
    own = {"qweight": packed(codes[:, order], 4), "qzeros": packed(np.full((3, 256), 8), 4), "scales": torch.tensor(scale)}
    write(made, {**values, **{f"{UP}.{name}": tensor for name, tensor in own.items()}})
    configure(made, quantization_config={"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True})
    assert opened(made, model).values[f"{UP}.weight"].equal(want)


def test_bitsandbytes_directories(model: LoadedModel, made: Path) -> None:
    """LLM.int8 rounds inputs too; NF4 does not."""
    values = tensors(made)
    dense = values.pop(f"{UP}.weight")
    own = {"weight": torch.full((256, 96), 127, dtype=torch.int8), "SCB": torch.full((256,), 0.5)}
    write(made, {**values, **{f"{UP}.{name}": tensor for name, tensor in own.items()}})
    configure(made, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 5.0})
    found = opened(made, model)
    assert torch.allclose(found.values[f"{UP}.weight"], torch.tensor(0.5))
    assert (found.activations[UP].kind, found.activations[UP].threshold) == ("llm_int8", 5.0)
    library = pytest.importorskip("bitsandbytes.functional")
    codes, state = library.quantize_4bit(dense, blocksize=32, quant_type="nf4")  # 32 cuts its rows: the CPU kernel errs where it does not
    own = {"weight": codes, **{f"weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()}}
    write(made, {**values, **{f"{UP}.{name}": tensor for name, tensor in own.items()}})
    configure(made, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False})
    found = opened(made, model)
    assert torch.allclose(found.values[f"{UP}.weight"], library.dequantize_4bit(codes, state), rtol=0, atol=1e-7)
    assert not found.activations


def test_hqq_directory(model: LoadedModel, made: Path) -> None:
    """The state of HQQ's own layer; steps that are packed themselves are refused."""
    pytest.importorskip("hqq")
    from pytest_kick.compress.library import hqq_quantizer  # noqa: PLC0415 - an extra

    values = tensors(made)
    quantizer: Any = hqq_quantizer()
    codes, meta = quantizer.quantize(values.pop(f"{UP}.weight"), nbits=3, group_size=32, axis=1, device="cpu", compute_dtype=torch.float32)
    own = {"W_q": codes, "shape": torch.tensor([256, 96]), **{n: torch.as_tensor(meta[n]) for n in ("nbits", "axis", "scale", "zero")}}
    own["group_size"] = torch.tensor(32)
    write(made, {**values, **{f"{UP}.{name}": tensor for name, tensor in own.items()}})
    configure(made, quantization_config={"quant_method": "hqq", "quant_config": {}})
    found = opened(made, model)
    assert found.values[f"{UP}.weight"].equal(quantizer.dequantize(codes, meta).float())
    assert found.widths[f"{UP}.weight"] == 3
    write(made, {**values, **{f"{UP}.{name}": tensor for name, tensor in own.items()}, f"{UP}.quant_scale": torch.tensor(1)})
    fails(made, model, f"steps or zero points of {UP} that are packed themselves")


@pytest.mark.parametrize("rounded_inputs", [False, True])
def test_torchao_directory(model: LoadedModel, tmp_path: Path, rounded_inputs: bool) -> None:
    """Weights of torchao's own tensors are taken; a layer that rounds its inputs is refused."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig  # noqa: PLC0415 - slow
    from transformers import AutoModelForCausalLM, TorchAoConfig  # noqa: PLC0415 - likewise

    kind = Int8DynamicActivationInt8WeightConfig() if rounded_inputs else Int8WeightOnlyConfig()
    with quiet():
        made = AutoModelForCausalLM.from_pretrained(
            SHIPPED / "tiny-decoder", quantization_config=TorchAoConfig(kind), device_map="cpu", dtype=torch.float32
        )
        made.save_pretrained(tmp_path / "made")
    if rounded_inputs:
        fails(tmp_path / "made", model, "got Int8Tensor with rounded activations, expected rounded weights alone")
        return
    found = opened(tmp_path / "made", model)
    dense = model.dense(f"{UP}.weight")
    step = dense.abs().amax(1, keepdim=True) / 127
    assert ((found.values[f"{UP}.weight"] - dense).abs() <= step * 0.51).all()
    assert found.notes == ("no tokenizer with the checkpoint: not compared",)
    assert (found.widths[f"{UP}.weight"], found.sizes[f"{UP}.weight"]) == (8, 256 * 96 * 8 + 256 * (32 + 8))  # its zero points too


def test_the_tokenizer_goes_first(model: LoadedModel, made: Path) -> None:
    """Other tokens are refused before the weights are read, which are damaged here; none at all is noted."""
    (made / "model.safetensors").write_bytes(b"damaged")
    data = json.loads((made / "tokenizer.json").read_text(encoding="utf-8"))
    data["model"]["vocab"] = {("zz" if text == "the" else text): number for text, number in data["model"]["vocab"].items()}
    data["model"]["merges"] = []
    (made / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    fails(made, model, "tokenizer: got 'zz' as token")
    (made / "tokenizer.json").write_text("{", encoding="utf-8")
    fails(made, model, "tokenizer: got ")
    shutil.copy(SHIPPED / "tiny-decoder" / "model.safetensors", made)
    (made / "tokenizer.json").unlink()
    (made / "tokenizer_config.json").unlink()
    assert opened(made, model).notes == ("no tokenizer with the checkpoint: not compared",)


def test_tokenizers_that_cut_alike(model: LoadedModel, made: Path) -> None:
    """Other settings that cut text alike are noted; the same tokens with other cuts are refused."""
    data = json.loads((made / "tokenizer.json").read_text(encoding="utf-8"))
    data["decoder"]["trim_offsets"] = False
    (made / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    assert opened(made, model).notes == ("tokenizer: same tokens and cuts as the dense model's, other settings",)
    data["model"]["merges"] = data["model"]["merges"][:9]
    (made / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    fails(made, model, "tokenizer: got other tokens for 'ADVENTURE")


def test_damaged_directories(model: LoadedModel, made: Path) -> None:
    """Cut-off files, NaN, tensors that are missing, unknown or of another shape, an adapter, nothing at all: one line each."""
    values, file = tensors(made), made / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    fails(made, model, "in model.safetensors, expected whole safetensors")
    write(made, {**values, f"{UP}.weight": values[f"{UP}.weight"] * torch.nan})
    fails(made, model, f"{UP}.weight: got 24576 NaN or infinite weights")
    write(made, {name: tensor for name, tensor in values.items() if not name.startswith(UP)})
    fails(made, model, f"weights: got missing keys {UP}.weight")
    write(made, {**values, "score.weight": torch.ones(2, 2)})
    fails(made, model, "weights: got unexpected keys score.weight")
    write(made, {**values, f"{UP}.weight": torch.ones(250, 96)})
    fails(made, model, "weights: got ")
    file.unlink()
    fails(made, model, "weights: got none")
    (made / "config.json").rename(made / "adapter_config.json")
    fails(made, model, "weights: got an adapter, expected whole weights")
    (made / "adapter_config.json").unlink()
    fails(made, model, "config.json: got no such file")


def test_what_is_not_there(model: LoadedModel, tmp_path: Path) -> None:
    """No such path, a pattern that matches nothing, and a file of another kind are one line."""
    (tmp_path / "m.bin").touch()
    for name in ("nothing", "m.bin"):
        fails(tmp_path / name, model, "expected a model directory or a .gguf file")
    fails(tmp_path / "run" / "checkpoint-*", model, "steps: got nothing at ")


def test_pickles_are_refused_unless_allowed(model: LoadedModel, made: Path) -> None:
    """As everywhere, a pickle needs leave."""
    torch.save(tensors(made), made / "pytorch_model.bin")
    (made / "model.safetensors").unlink()
    fails(made, model, "weights: got a pickle (pytorch_model.bin)")
    found = opened(made, model, allow_pickle=True)
    assert found.values[f"{UP}.weight"].equal(model.dense(f"{UP}.weight"))


@pytest.mark.parametrize(("kind", "bits", "codes"), [("q8_0", 8.5, 127), ("q5_0", 5.5, 16), ("q4_0", 4.5, 8)])
def test_gguf(model: LoadedModel, tmp_path: Path, kind: str, bits: float, codes: int) -> None:
    """Written from the dense model and read back, all are the dense weights within the rounding of each block, queries and keys too."""
    write_gguf(model, tmp_path / "m.gguf", kind)
    found = opened(tmp_path / "m.gguf", model)
    assert found.notes == ()
    for name, dense in model.module.named_parameters():
        values, stored, n_codes = found.values[name], *((8.5, 127) if "embed" in name else (bits, codes))
        if dense.ndim == 1:
            assert values.equal(dense)
            continue
        top = dense.detach().reshape(-1, 32).abs().amax(1, keepdim=True)
        off = ((values - dense.detach()).reshape(-1, 32).abs() / top).sub(2**-11)  # steps are stored as float16
        assert float(off.quantile(0.9)) <= 0.5 / n_codes  # half a step
        assert float(off.max()) <= (0.5 if n_codes == 127 else 1) / n_codes  # 4 and 5 bits lack the code opposite to the largest
        assert (found.widths[name], found.sizes[name]) == (int(stored), stored * dense.numel())


def test_rotary_order() -> None:
    """Rows of a head: the first of the first half, the first of the second, and so on; written out by hand for two heads of four."""
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert rotary_order(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_damaged_gguf(model: LoadedModel, tmp_path: Path) -> None:
    """A file that is cut off, no GGUF file, of another model or another tokenizer: one line each."""
    path = tmp_path / "m.gguf"
    write_gguf(model, path, "q8_0")
    whole = path.read_bytes()
    for n in (len(whole) - 1, len(whole) // 2, 100_000, 5_000, 100, 23, 5, 3, 0):
        path.write_bytes(whole[:n])
        said = f"weights: got a truncated or empty GGUF file of {n:,} bytes at {path}, expected a whole one. Copy or download it again."
        fails(path, model, said)
    path.write_bytes(b"no such thing at all")
    fails(path, model, f"weights: got another kind of file at {path}, expected one that begins with GGUF. Check the path.")
    path.write_bytes(whole[:4] + b"\x63" + whole[5:])
    fails(path, model, "weights: got ValueError (Sorry, file appears to be version 99")
    path.write_bytes(whole.replace(b"general.architecture", b"general.architectur_"))
    fails(path, model, "weights: got KeyError ('general.architecture'), expected a readable checkpoint. Check m.gguf.")
    tokens = [model.tokenizer.convert_ids_to_tokens(number) for number in range(5)]
    assert list(read_header(write_again(path, whole)).tokens[:5]) == tokens
    write_again(path, whole.replace(b"<pad>", b"<pod>", 1))
    fails(path, model, "tokenizer: got '<pod>' as token 0 (dense: '<pad>'), 1 tokens differ")
    write_again(path, whole.replace(b"llama.rope.freq_base", b"llama.rope.freq_bass"))
    opened(path, model)  # 10000 is the default
    other = loaded("tiny-encoder")
    fails(path, other, "tokenizer: got ")


def write_again(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(content)
    return path
