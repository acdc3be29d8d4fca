from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, VOCABULARY, WORDS, make_module, make_tokenizer

from pytest_kick.errors import ModelError
from pytest_kick.models.checks import check_directory, family_of
from pytest_kick.models.load import load
from pytest_kick.models.quiet import quiet
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def edit_config(directory: Path, **changes: Any) -> None:
    """Change `config.json`; None removes a key."""
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Rewrite the weights."""
    path = directory / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_family_loads_as_float32_in_eval_mode(masters: dict[str, Path], spec_of: Callable[[str], ModelSpec], kind: str) -> None:
    """A directory gives the weights that were saved, dense, without gradients, on the CPU."""
    model = load(spec_of(kind), masters[kind])
    expected = dict(make_module(kind).named_parameters())
    assert (model.name, model.family, model.dtype, model.device.type) == (kind, CONFIGS[kind][0], torch.float32, "cpu")
    assert not any(module.training for module in model.module.modules())
    found = dict(model.module.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        assert parameter.dtype == torch.float32
        assert not parameter.requires_grad
        assert torch.equal(parameter, expected[name])


def test_half_precision_checkpoints_become_float32(model_dir: Callable[[str], Path], spec_of: Callable[[str], ModelSpec]) -> None:
    """A bfloat16 checkpoint gives a float32 master with exactly its values."""
    directory = model_dir("llama")
    edit_weights(directory, lambda tensors: tensors.update({name: t.bfloat16() for name, t in tensors.items()}))
    edit_config(directory, dtype="bfloat16")
    stored = load_file(directory / "model.safetensors")
    model = load(spec_of("llama"), directory)
    for name, parameter in model.module.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, stored[name].float())


def test_harmless_extra_tensors_are_ignored(model_dir: Callable[[str], Path], spec_of: Callable[[str], ModelSpec]) -> None:
    """Pretraining heads and old buffers, as BERT's own checkpoint has them, are no error."""
    directory = model_dir("bert")
    extra = {name: torch.zeros(2, 16) for name in ("bert.pooler.dense.weight", "cls.seq_relationship.weight")}
    edit_weights(directory, lambda tensors: tensors.update(extra))
    assert load(spec_of("bert"), directory).n_total


def remove_weights(directory: Path) -> None:
    """Leave configuration and tokenizer."""
    (directory / "model.safetensors").unlink()


def pickle_weights(directory: Path) -> None:
    """Replace safetensors by torch's pickle."""
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    remove_weights(directory)


def truncate_weights(directory: Path) -> None:
    """Cut the file of weights."""
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def poison(value: float) -> Callable[[Path], None]:
    """Return a function that puts a value into one matrix."""
    return lambda directory: edit_weights(
        directory, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].view(-1)[3:5].fill_(value)
    )


def drop_layer(directory: Path) -> None:
    """Lose one tensor."""
    edit_weights(directory, lambda tensors: tensors.__delitem__("model.layers.1.mlp.up_proj.weight"))


def add_layer(directory: Path) -> None:
    """Add tensors that the architecture lacks."""
    edit_weights(directory, lambda t: t.update({f"model.layers.{i}.mlp.up_proj.weight": torch.zeros(24, 16) for i in range(2, 7)}))


def other_shape(directory: Path) -> None:
    """Give a tensor another shape."""
    edit_weights(directory, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(17)}))


def larger_tokenizer(directory: Path) -> None:
    """Save a tokenizer with more words than the embedding has rows."""
    make_tokenizer([*WORDS, *(f"x{i}" for i in range(VOCABULARY))]).save_pretrained(directory)


def no_tokenizer(directory: Path) -> None:
    """Remove the tokenizer."""
    for path in directory.glob("tokenizer*"):
        path.unlink()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (remove_weights, r"weights: got none in .*, expected \*.safetensors. Check the path."),
    "pickle": (
        pickle_weights,
        r"weights: got a pickle \(pytorch_model.bin\), expected \*.safetensors. Convert it, or use --kick-allow-pickle",
    ),
    "truncated": (truncate_weights, r"weights: got SafetensorError \(.*\), expected a readable checkpoint. Check"),
    "nan": (poison(float("nan")), r"model.layers.1.mlp.up_proj.weight: got 2 NaN or infinite weights, expected finite ones"),
    "inf": (poison(float("-inf")), r"model.layers.1.mlp.up_proj.weight: got 2 NaN or infinite weights"),
    "missing tensor": (drop_layer, r"weights: got missing keys model.layers.1.mlp.up_proj.weight, expected all tensors"),
    "unknown tensors": (add_layer, r"weights: got unexpected keys model.layers.2.*, model.layers.4.* and 2 more, expected only"),
    "other shape": (other_shape, r"weights: got .*, expected .*\. "),
    "larger tokenizer": (larger_tokenizer, r"tokenizer: got token ids up to 65, expected ids below the 40 rows of the embedding"),
    "no tokenizer": (no_tokenizer, r"tokenizer: got none in .*, expected tokenizer.json or the like"),
    "broken tokenizer": (lambda d: (d / "tokenizer.json").write_text("{"), r"tokenizer: got .*, expected one that transformers reads"),
    "code": (
        lambda d: edit_config(d, auto_map={"AutoConfig": "x.Y"}),
        r"config: got auto_map, expected no code .* --kick-trust-remote-code\.",
    ),
    "quantized": (lambda d: edit_config(d, quantization_config={}), r"config: got quantization_config, expected dense weights"),
    "no config": (lambda d: (d / "config.json").unlink(), r"config.json: got no such file in .*, expected a model directory"),
    "binary config": (lambda d: (d / "config.json").write_bytes(b"\xff\x00"), r"config.json: got UnicodeDecodeError .*, expected JSON"),
    "list config": (lambda d: (d / "config.json").write_text("[]"), r"config.json: got list, expected a JSON object"),
    "unknown architecture": (lambda d: edit_config(d, model_type="nonesuch", architectures=None), r"got .*nonesuch.*, expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_directory_is_a_one_line_error(model_dir: Callable[[str], Path], spec_of: Callable[[str], ModelSpec], case: str) -> None:
    """Each way a directory can be wrong is refused in one line that says what to do."""
    directory = model_dir("llama")
    break_, message = BAD[case]
    break_(directory)
    with pytest.raises(ModelError, match=message) as caught:
        load(spec_of("llama"), directory)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model 'llama': ")


def test_a_pickle_loads_when_allowed(model_dir: Callable[[str], Path], spec_of: Callable[[str], ModelSpec]) -> None:
    """With allow_pickle the same values come out of the pickle."""
    directory = model_dir("llama")
    expected = load(spec_of("llama"), directory).weights_hash
    pickle_weights(directory)
    assert load(spec_of("llama"), directory, allow_pickle=True).weights_hash == expected


def test_code_in_the_directory_is_not_refused_when_trusted(model_dir: Callable[[str], Path]) -> None:
    """trust_remote_code lifts the check of auto_map."""
    directory = model_dir("llama")
    edit_config(directory, auto_map={"AutoConfig": "x.Y"})
    check_directory(directory, "here", family="decoder", allow_pickle=False, trust_remote_code=True)


def test_a_wrong_family_is_named(masters: dict[str, Path]) -> None:
    """A suite that calls a decoder an encoder is told so."""
    spec = ModelSpec(name="llama", family="encoder", source="path:/nowhere")
    with pytest.raises(ModelError, match=r"family: got 'encoder', expected 'decoder' for LlamaForCausalLM. Correct the suite."):
        load(spec, masters["llama"])


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"architectures": ["BertForPreTraining"], "model_type": "bert"}, "encoder"),
        ({"architectures": ["BertLMHeadModel"], "model_type": "bert"}, "decoder"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": "roberta"}, "encoder"),
        ({"model_type": "mixtral"}, "decoder"),
        ({"model_type": "nonesuch"}, ""),
    ],
)
def test_family_of_reads_the_configuration(config: dict[str, Any], family: str) -> None:
    """The family follows from architecture, else from the type of model."""
    assert family_of(config) == family


def test_loading_is_silent(masters: dict[str, Path]) -> None:
    """A fresh interpreter with warnings as errors loads a model and writes nothing to either stream."""
    code = (
        "import sys; from pathlib import Path; from pytest_kick.models import load; from pytest_kick.spec import ModelSpec\n"
        "load(ModelSpec(name='m', family='decoder', source='path:/x'), Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, str(masters["llama"])], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_restores_what_it_silenced() -> None:
    """Verbosity and progress bars are as before, also after an error; other records of the filtered loggers pass."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    before = (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled())

    def fail() -> None:
        with quiet():
            assert not transformers_logging.is_progress_bar_enabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before
    logger = logging.getLogger("torchao")
    kept = logger.filter(logging.makeLogRecord({"name": "torchao", "msg": "Something else"}))
    dropped = logger.filter(logging.makeLogRecord({"name": "torchao", "msg": "Failed to load x.so"}))
    assert kept
    assert not dropped
