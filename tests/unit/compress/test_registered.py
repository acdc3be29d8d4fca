"""Registered methods: what they are given, what they may return, and what the check refuses."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_zoo import loaded as built

import pytest_kick
from pytest_kick.catalog import catalog
from pytest_kick.compress import Calibrator, LayerInputs, compress_
from pytest_kick.compress.check_registered import crowded
from pytest_kick.errors import CompressionError
from pytest_kick.models.cache import ModelCache
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.scopes import select
from pytest_kick.registry import METHODS
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.result import StepReport

Load = Callable[[str], LoadedModel]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test registers."""
    restore = METHODS.snapshot()
    yield
    restore()


def apply(model: LoadedModel, level: float, *, scope: str = "ffn", calibrator: Calibrator | None = None, **params: Any) -> StepReport:
    """Apply the method `mine`."""
    step = CompressionStep(method="mine", scope=scope, level=level, params=tuple(params.items()))
    return compress_(model, CompressionSpec(steps=(step,)), calibrator).steps[0]


def weights(model: LoadedModel, scope: str = "ffn") -> dict[str, np.ndarray]:
    """Copy the matrices of a scope."""
    return {
        m.name: m.read(model.module.get_parameter(m.parameter).detach()).numpy().copy() for m in select(model.module, model.family, scope)
    }


def rounded(weight: torch.Tensor, bits: int, group: int = 0) -> torch.Tensor:
    """Round to a symmetric grid per group of a row."""
    parts = []
    for part in torch.split(weight, group or weight.shape[1], 1):
        step = part.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
        parts.append((part / step).round() * step)
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("kind", ["llama", "bert", "t5", "gpt2", "mixtral"])
def test_a_function_sees_each_matrix(loaded: Load, kind: str) -> None:
    """It gets every matrix of the scope, out x in, with the level, and the model has what it returned: on every layout."""
    seen: dict[int, np.ndarray] = {}

    @pytest_kick.method("mine")
    def mine(weight: torch.Tensor, bits: int, *, scale: float = 1.0) -> torch.Tensor:
        assert isinstance(bits, int)
        seen[len(seen)] = weight.numpy().copy()
        return rounded(weight, bits) * scale

    model = loaded(kind)
    dense = weights(model)
    report = apply(model, 4, scale=2.0)
    assert all(np.array_equal(old, got) for old, got in zip(dense.values(), seen.values(), strict=True))
    for name, now in weights(model).items():
        np.testing.assert_array_equal(now, rounded(torch.from_numpy(dense[name]), 4).numpy() * 2)
    assert (report.n_matrices, report.achieved) == (len(dense), 4.0)


def test_its_weight_is_its_own(loaded: Load) -> None:
    """A function may write into what it is given, later too: nothing of the model changes but by what it returns."""
    given: list[torch.Tensor] = []

    @pytest_kick.method("mine")
    def mine(weight: torch.Tensor, bits: int) -> torch.Tensor:
        given.append(weight)
        kept = rounded(weight, bits)
        for earlier in given:
            earlier.fill_(float("nan"))
        return kept

    model = loaded("llama")
    dense = weights(model)
    apply(model, 4)
    assert all(np.array_equal(now, rounded(torch.from_numpy(dense[name]), 4).numpy()) for name, now in weights(model).items())


def test_bits_are_what_it_returns(loaded: Load) -> None:
    """Effective bits are those beside the weights, averaged over weights; without them the level's, and the report says so."""
    pytest_kick.method("mine")(lambda weight, bits, *, group=16: (rounded(weight, bits, group), bits + 16 / group))
    report = apply(loaded("llama"), 4)
    assert report.bits_per_weight == pytest.approx(5.0)
    assert report.notes == ()
    pytest_kick.method("mine")(lambda weight, bits: rounded(weight, bits) * 1.0)
    report = apply(loaded("llama"), 4)
    assert report.bits_per_weight == 4.0
    assert any(note.startswith("scales and the like are not counted") for note in report.notes)
    assert any(note.startswith("no group declared") for note in report.notes)


class Halving:
    """Take half of the largest of the whole scope off."""

    def __init__(self, level: float, *, part: float = 0.5) -> None:
        """Take the level."""
        self.level, self.part, self.top = level, part, 0.0

    def start(self, targets: Any) -> None:
        """See all of the scope."""
        self.top = max(float(item.weight.abs().max()) for item in targets.items)

    def __call__(self, target: Any) -> torch.Tensor:
        """Prune with one threshold."""
        assert isinstance(target.layer, torch.nn.Module)
        weight: torch.Tensor = target.weight
        keep = int(weight.numel() - np.floor(weight.numel() * self.level))
        order = weight.abs().flatten().argsort(descending=True, stable=True)
        pruned = torch.zeros(weight.numel())
        pruned[order[:keep]] = weight.flatten()[order[:keep]]
        assert self.top >= float(weight.abs().max())
        return pruned.reshape(weight.shape)


def test_a_class_sees_the_scope_and_modules(loaded: Load) -> None:
    """A class is made once, started with the whole scope, and called with weights, name and module; zeros are counted as for any."""
    pytest_kick.method("mine", level="sparsity")(Halving)
    report = apply(loaded("bert"), 0.25)
    assert report.achieved == 0.25
    assert report.bits_per_weight == pytest.approx(0.75 * 32 + 1)


@pytest.mark.parametrize(("share", "compensates", "said"), [(0.2, False, "got .* zeros there"), (0.3, False, "survivors"), (0.3, True, "")])
def test_sparsity_is_held_to_its_level(loaded: Load, share: float, compensates: bool, said: str) -> None:
    """A pruner with other zeros, or that changes survivors without saying so, is refused; one that says so is not."""

    @pytest_kick.method("mine", level="sparsity", compensates=compensates)
    def mine(weight: torch.Tensor, level: float) -> torch.Tensor:
        del level
        flat = weight.flatten()
        flat[flat.abs().argsort(stable=True)[: int(np.floor(flat.numel() * share))]] = 0
        return weight * (1.01 if share == 0.3 else 1.0)

    if said:
        with pytest.raises(CompressionError, match=said):
            apply(loaded("llama"), 0.3)
    else:
        assert apply(loaded("llama"), 0.3).achieved == pytest.approx(0.3, abs=1e-3)


def raising(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Raise."""
    return weight / torch.zeros(bits)[bits]


def exiting(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Leave."""
    del weight, bits
    raise SystemExit(3)


def some_rows(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Leave two rows."""
    return torch.cat([weight[:2], rounded(weight, bits)[2:]])


def too_many(weight: torch.Tensor, bits: int, *, group: int = 0) -> torch.Tensor:
    """Take a bit more than asked."""
    return rounded(weight, bits + 1, group)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (raising, r"got IndexError \(.*\) at test_registered\.py:\d+, expected it to run"),
        (exiting, r"got SystemExit \(3\) at test_registered\.py:\d+, expected it to run"),
        (lambda weight, bits: None, r"got None returned, expected a tensor \(48, 32\) of torch\.float32 on cpu"),  # noqa: ARG005
        (lambda weight, bits: weight.numpy(), "got a ndarray returned"),  # noqa: ARG005
        (lambda weight, bits: (weight, 4, bits), "got a tuple returned"),
        (lambda weight, bits: weight[:-1], r"got a tensor \(47, 32\) of"),  # noqa: ARG005
        (lambda weight, bits: weight.T, r"got a tensor \(32, 48\) of"),  # noqa: ARG005
        (lambda weight, bits: rounded(weight, bits).bfloat16(), r"got a tensor \(48, 32\) of torch\.bfloat16"),
        (lambda weight, bits: rounded(weight, bits).to("meta"), "got .* on meta returned"),
        (lambda weight, bits: rounded(weight, bits).to_sparse(), "got a sparse tensor .* returned"),
        (lambda weight, bits: rounded(weight, bits) / 0, "got NaN or infinite weights"),
        (lambda weight, bits: (rounded(weight, bits), -1), "got -1 as bits per weight, expected a number above 0, at most 32"),
        (lambda weight, bits: (rounded(weight, bits), "4"), "got '4' as bits per weight"),
        (lambda weight, bits: (rounded(weight, bits), float("nan")), "got nan as bits per weight"),
        (lambda weight, bits: weight, "got no weight changed, expected each matrix to change"),  # noqa: ARG005
        (lambda weight, bits: torch.zeros_like(weight), "got all weights zero, expected rounded ones"),  # noqa: ARG005
        (some_rows, r"got rows left as they were, with more than 2\^3 values"),
        (too_many, r"got more than 2\^3 values in a group, expected at most as many as there are codes"),
    ],
)
def test_what_a_method_may_not_do(loaded: Load, code: Any, said: str) -> None:
    """Whatever is no compression of a matrix is one line that names the matrix, and the dense weights are as they were."""
    pytest_kick.method("mine")(code)
    model = loaded("llama")
    dense = weights(model, "overall")
    with pytest.raises(CompressionError, match=rf"^mine--ffn--b3: .*(gate|up|down)_proj.*: {said}") as caught:
        apply(model, 3)
    assert "\n" not in str(caught.value)
    model.fresh_()
    assert all(np.array_equal(now, dense[name]) for name, now in weights(model, "overall").items())


def test_bits_beside_zeros_are_refused(loaded: Load) -> None:
    """Bits of pruned weights are counted, not told."""
    pytest_kick.method("mine", level="sparsity")(lambda weight, level: (weight * (weight.abs() > level), 3.0))
    with pytest.raises(CompressionError, match="got bits beside the weights, expected weights alone: zeros are counted"):
        apply(loaded("llama"), 0.3)


class Meddling:
    """Change what is none of its business."""

    def __init__(self, bits: int) -> None:
        """Take the level."""
        self.bits = bits

    def __call__(self, target: Any) -> torch.Tensor:
        """Shift a bias."""
        if target.layer.bias is not None:
            target.layer.bias.data += 1
        return rounded(target.weight, self.bits)


class Doubling(torch.nn.Linear):
    """A layer that computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give twice as much."""
        return super().forward(x) * 2


def parameter(layer: Any) -> None:
    """Give a layer a bias where it has none."""
    layer.bias = torch.nn.Parameter(torch.ones(layer.out_features))


def buffer(layer: Any) -> None:
    """Give a layer a buffer."""
    layer.register_buffer("more", torch.ones(1))


def submodule(layer: Any) -> None:
    """Hang a module below a layer."""
    layer.more = torch.nn.Identity()


def swapped(layer: Any) -> None:
    """Put another Parameter in the place of the weight."""
    layer.weight = torch.nn.Parameter(layer.weight.detach() * 2)


def another_class(layer: Any) -> None:
    """Make a layer one of another class."""
    layer.__class__ = Doubling


def another_forward(layer: Any) -> None:
    """Put a function in the place of the forward pass."""
    layer.forward = lambda x: x


def another_hook(layer: Any) -> None:
    """Put a hook before the forward pass."""
    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0,))


def an_attribute(layer: Any) -> None:
    """Put a layer into training mode, where dropout drops."""
    layer.train()


REWIRINGS: dict[Callable[[Any], None], str] = {
    parameter: "bias",
    buffer: "more",
    submodule: "more",
    swapped: "weight",
    another_class: "__class__",
    another_forward: "forward",
    another_hook: "_forward_pre_hooks",
    an_attribute: "training",
}


@pytest.mark.parametrize("propagate", ["", "compressed", "dense"])
@pytest.mark.parametrize("meddle", REWIRINGS, ids=lambda meddle: meddle.__name__)
def test_layers_are_watched(tmp_path: Path, meddle: Callable[[Any], None], propagate: str) -> None:
    """A class that changes what a layer computes besides its weights is refused by the name of that, and the dense model is back.

    With calibration too, whose own hooks are none of the method's doing.
    """

    class Rewiring(Meddling):
        def __call__(self, target: Any) -> torch.Tensor:
            if "layers.1.mlp.up" in target.matrix.name:
                meddle(target.layer)
            return rounded(target.weight, self.bits)

    class Calibrated(Rewiring):
        def __call__(self, target: Any, *, inputs: LayerInputs | None = None) -> torch.Tensor:
            assert inputs is not None
            return super().__call__(target)

    pytest_kick.method("mine")(Calibrated if propagate else Rewiring)
    model = ModelCache(tmp_path).get(catalog()["tiny-decoder"])  # one that no other test sees
    data: dict[str, Any] = {"source": "statements", "count": 4, "length": 16, "propagate": propagate}
    given = {"calibrator": Calibrator(cache=tmp_path), **data} if propagate else {}
    ids = torch.arange(5, 29).reshape(2, 12)
    dense = model.module(ids).logits.detach().clone()
    name = rf"model\.layers\.1\.mlp\.up_proj\.{REWIRINGS[meddle]}: got a module changed there, expected modules as they were"
    with pytest.raises(CompressionError, match=rf"^mine--ffn--b4\S*: {name}\. ") as caught:
        apply(model, 4, **given)
    assert "\n" not in str(caught.value)
    model.fresh_()
    assert torch.equal(model.module(ids).logits, dense)


def test_the_whole_model_is_watched() -> None:
    """A class that meddles elsewhere than with its layer, before the first matrix even, is refused likewise."""

    class Early(Meddling):
        def start(self, targets: Any) -> None:
            targets.module.get_submodule("model.norm").__class__ = torch.nn.Identity

    pytest_kick.method("mine")(Early)
    model = built.__wrapped__("LlamaForCausalLM")
    with pytest.raises(CompressionError, match=r"^mine--ffn--b4: model\.norm\.__class__: got a module changed there"):
        apply(model, 4)


def test_buffers_are_watched() -> None:
    """A class that writes into a buffer is refused by its name."""

    class Writing(Meddling):
        def start(self, targets: Any) -> None:
            targets.module.get_buffer("model.rotary_emb.inv_freq").data[0] += 1

    pytest_kick.method("mine")(Writing)
    model = built.__wrapped__("LlamaForCausalLM")
    with pytest.raises(CompressionError, match=r"^mine--ffn--b4: model\.rotary_emb\.inv_freq: got a change outside the scope 'ffn'"):
        apply(model, 4)


def test_looking_is_no_change(loaded: Load) -> None:
    """A class may read modules, run them, put a hook on and take it off again."""

    class Looking(Meddling):
        def start(self, targets: Any) -> None:
            targets.module(torch.arange(5, 29).reshape(2, 12))

        def __call__(self, target: Any) -> torch.Tensor:
            handle = target.layer.register_forward_hook(lambda *_: None)
            target.layer(torch.ones(target.matrix.shape[1]))
            handle.remove()
            return rounded(target.weight, self.bits)

    pytest_kick.method("mine")(Looking)
    assert apply(loaded("llama"), 4).n_matrices == 6


def test_biases_are_watched() -> None:
    """A class that changes a bias, behind torch's back, is refused by the name of the parameter."""
    pytest_kick.method("mine")(Meddling)
    model = built.__wrapped__("BertForMaskedLM")  # one that no other test sees
    with pytest.raises(CompressionError, match=r"^mine--ffn--b4: bert\.encoder\.layer\.0\.\S*bias.*: got a change outside the scope 'ffn'"):
        apply(model, 4)


def test_what_lay_on_the_grid_may_stay(loaded: Load) -> None:
    """A matrix that nothing is to be done for is noted, not refused, where its values show it."""
    pytest_kick.method("mine")(lambda weight, bits, *, group=16: rounded(weight, bits, group))
    model = loaded("llama")
    for matrix in select(model.module, model.family, "ffn"):
        model.touch([matrix.parameter])
        parameter = model.module.get_parameter(matrix.parameter).detach()
        matrix.write_(parameter, rounded(matrix.read(parameter).clone(), 3, 16))
    known = model.dense
    model.dense = lambda name: model.module.get_parameter(name).detach().clone()  # type: ignore[method-assign]
    try:
        report = apply(model, 3)
    finally:
        model.dense = known  # type: ignore[method-assign]
    assert report.n_changed == 0
    assert "6 of 6 matrices lay on such a grid before" in report.notes


@pytest.mark.parametrize(("level", "code", "achieved"), [("rank", lambda w, r: w[:, :r] @ torch.ones(r, w.shape[1]), 1.0)])
def test_a_rank_is_measured(loaded: Load, level: Any, code: Any, achieved: float) -> None:
    """The rank found is that of the matrices; a higher one than asked is refused; factors are what is stored."""
    pytest_kick.method("mine", level=level)(code)
    report = apply(loaded("llama"), 4)
    assert report.achieved == achieved
    assert report.bits_per_weight == pytest.approx(32 * 4 * (48 + 32) / (48 * 32))
    pytest_kick.method("other", level="rank")(lambda weight, rank: weight + 1 / rank)
    step = CompressionStep(method="other", scope="ffn", level=4)
    with pytest.raises(CompressionError, match="got a rank of 32, expected at most 4"):
        compress_(loaded("llama"), CompressionSpec(steps=(step,)))


def test_other_levels(loaded: Load) -> None:
    """Noise is measured against the weights; a count says how many matrices changed; doing nothing is refused."""
    pytest_kick.method("mine", level="sigma")(lambda weight, sigma: weight * (1 + sigma))
    assert apply(loaded("llama"), 0.25).achieved == pytest.approx(0.25, rel=1e-5)
    calls = []

    @pytest_kick.method("fewer", level="count")
    def fewer(weight: torch.Tensor, count: int) -> torch.Tensor:
        calls.append(count)
        return weight * (len(calls) > 1)

    step = CompressionStep(method="fewer", scope="ffn", level=1)
    report = compress_(loaded("llama"), CompressionSpec(steps=(step,))).steps[0]
    assert report.achieved == 1.0
    assert report.notes == ("what is counted is the method's own: 1 of 6 matrices changed",)


def test_random_numbers_are_its_own(loaded: Load) -> None:
    """Two runs of a step draw the same, and what is drawn afterwards is as if there had been none; defaults are put back."""

    @pytest_kick.method("mine", level="sigma")
    def mine(weight: torch.Tensor, sigma: float) -> torch.Tensor:
        torch.set_default_dtype(torch.float64)
        return weight + sigma * torch.randn(weight.shape, dtype=torch.float32) * random.random() * np.random.rand()  # noqa: S311, NPY002

    def drawn() -> tuple[float, ...]:
        return float(torch.rand(1)), random.random(), float(np.random.rand())  # noqa: S311, NPY002 - what strangers use

    def seed(value: int) -> None:
        torch.manual_seed(value)
        random.seed(value)
        np.random.seed(value)  # noqa: NPY002 - as above

    model = loaded("llama")
    found = []
    for value in (1, 2):
        model.fresh_()
        seed(value)
        expected = drawn()
        seed(value)
        apply(model, 0.5)
        assert drawn() == expected
        found.append(weights(model))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    assert torch.get_default_dtype() == torch.float32


class Broken:
    """Raise where it is made, or started."""

    def __init__(self, bits: int, *, when: str = "made") -> None:
        """Raise, or not yet."""
        self.bits = bits
        if when == "made":
            raise KeyError(when)

    def start(self, targets: Any) -> None:
        """Raise."""
        raise KeyError(len(targets.items))

    def __call__(self, target: Any) -> torch.Tensor:
        """Do nothing."""
        return torch.as_tensor(target.weight)


@pytest.mark.parametrize(("when", "said"), [("made", r"class: got KeyError \('made'\)"), ("later", r"start: got KeyError \(6\)")])
def test_a_class_that_breaks_early(loaded: Load, when: str, said: str) -> None:
    """What raises before the first matrix is one line too."""
    pytest_kick.method("mine")(Broken)
    with pytest.raises(CompressionError, match=rf"^mine--ffn--b4.*: {said} at test_registered\.py:\d+, expected it to run"):
        apply(loaded("llama"), 4, when=when)


@functools.cache
def decoder(cache: Any) -> LoadedModel:
    """Load a shipped model once."""
    return ModelCache(cache).get(catalog()["tiny-decoder"])


@pytest.mark.parametrize("propagate", ["compressed", "dense"])
def test_inputs_are_what_calibration_saw(tmp_path_factory: pytest.TempPathFactory, propagate: str) -> None:
    """A method that asks for inputs gets norms and second moments that agree, its own to change, and as many tokens as there were."""
    seen: list[tuple[int, torch.Size]] = []

    @pytest_kick.method("mine")
    def mine(weight: torch.Tensor, bits: int, *, inputs: LayerInputs | None = None) -> torch.Tensor:
        assert inputs is not None
        hessian, norms = inputs.hessian, inputs.norms
        assert (hessian.dtype, norms.dtype) == (torch.float32, torch.float32)
        assert hessian.shape == (weight.shape[1], weight.shape[1])
        torch.testing.assert_close(hessian.diagonal() * inputs.n_tokens / 2, norms.square(), rtol=1e-4, atol=1e-6)
        hessian.zero_()
        norms.zero_()
        assert float(inputs.norms.max()) > 0
        assert float(inputs.hessian.max()) > 0
        seen.append((inputs.n_tokens, norms.shape))
        return rounded(weight, bits)

    cache = tmp_path_factory.mktemp("cache")
    model = decoder(cache)
    model.fresh_()
    report = apply(model, 4, calibrator=Calibrator(cache=cache), source="statements", count=16, length=32, propagate=propagate)
    assert len(seen) == report.n_matrices
    assert len({n for n, _ in seen}) == 1
    assert report.calibration


def test_crowded_counts_as_a_plain_loop_does() -> None:
    """Rows with a group of more values than codes: counted value by value, a last group shorter, zeros that stayed not counted."""
    rng = np.random.default_rng(5)
    for group, bits in ((0, 2), (8, 2), (6, 1), (16, 2)):
        weight = rng.integers(-3, 4, (40, 22)).astype(np.float32) * rng.choice([0.1, 0.3], (40, 1)).astype(np.float32)
        before = np.where(rng.random(weight.shape) < 0.5, weight, rng.standard_normal(weight.shape)).astype(np.float32)
        width = group or 22
        expected = []
        for row, old in zip(weight.tolist(), before.tolist(), strict=True):
            parts = [range(start, min(start + width, 22)) for start in range(0, 22, width)]
            allowed = [2**bits + any(row[i] == 0 and old[i] == 0 for i in part) for part in parts]
            expected.append(any(len({row[i] for i in part}) > limit for part, limit in zip(parts, allowed, strict=True)))
        assert crowded(weight, before, bits, group).tolist() == expected
        assert any(expected)
