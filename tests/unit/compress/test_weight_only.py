"""The methods rtn and cast on whole models: every family and scope, chains, what is reported, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pytest_kick.compress import Targets, compress_, finish_, int8, lifecycle
from pytest_kick.compress.formats import Float, Grid
from pytest_kick.compress.weight_only import rtn
from pytest_kick.errors import CompressionError
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.scopes import select
from pytest_kick.spec import CompressionSpec, CompressionStep

Load = Callable[[str], LoadedModel]
KINDS = ("llama", "bert", "albert", "t5", "gpt2", "neox", "mixtral")


def step(method: str, scope: str, level: float, **params: Any) -> CompressionStep:
    """Make one step."""
    return CompressionStep(method=method, scope=scope, level=level, params=tuple(params.items()))


def spec(*steps: CompressionStep) -> CompressionSpec:
    """Make a compression."""
    return CompressionSpec(steps=steps)


def matrices(model: LoadedModel, scope: str) -> dict[str, np.ndarray]:
    """Copy the matrices of a scope, `(out, in)`."""
    chosen = select(model.module, model.family, scope)
    return {m.name: m.read(model.module.get_parameter(m.parameter).detach()).numpy().copy() for m in chosen}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["attention", "ffn", "overall", "head", "*.1.*"])
def test_every_scope_of_every_family(loaded: Load, kind: str, scope: str) -> None:
    """Counted apart from the tool's own check: few levels per group of inputs, near the dense values, and fresh_ undoes all."""
    model = loaded(kind)
    scope = "*layer*" if kind == "albert" and scope == "*.1.*" else scope
    dense = matrices(model, scope)
    (report,) = compress_(model, spec(step("rtn", scope, 3, group=20))).steps
    now = matrices(model, scope)
    for name, values in now.items():
        for start in range(0, values.shape[1], 20):
            old, new = (m[:, start : start + 20] for m in (dense[name], values))
            top = np.abs(old).max(axis=1, keepdims=True)
            assert max(len(np.unique(row)) for row in new) <= 8
            assert (np.abs(old - new) <= top / 7 * 1.0001).all()
    assert report.n_weights == sum(m.size for m in dense.values())
    assert report.n_changed == sum(int((now[name] != dense[name]).sum()) for name in now) > 0.99 * report.n_weights
    assert report.asked == report.achieved == 3
    side = sum(m.shape[0] * -(-m.shape[1] // 20) * 16 for m in dense.values())
    assert report.bits_per_weight == pytest.approx(3 + side / report.n_weights)
    model.fresh_()
    assert all(np.array_equal(values, dense[name]) for name, values in matrices(model, scope).items())


@pytest.mark.parametrize("kind", ["llama", "bert", "t5", "gpt2", "mixtral"])
def test_casts_of_every_family(loaded: Load, kind: str) -> None:
    """Every weight of the scope has the mantissa of the format, and only those; bits are counted with the scales."""
    model = loaded(kind)
    dense = matrices(model, "overall")
    (report,) = compress_(model, spec(step("cast", "overall", 16))).steps
    for name, values in matrices(model, "overall").items():
        assert not (values.view(np.uint32) & 0xFFFF).any()
        assert np.allclose(values, dense[name], rtol=2**-8, atol=0)
    assert (report.achieved, report.bits_per_weight) == (16, 16)
    model.fresh_()
    (report,) = compress_(model, spec(step("cast", "overall", 16, format="fp16"))).steps
    assert all(np.array_equal(v, dense[name].astype(np.float16).astype(np.float32)) for name, v in matrices(model, "overall").items())
    model.fresh_()
    (report,) = compress_(model, spec(step("cast", "overall", 8, format="fp8_e4m3"))).steps
    rows = sum(m.shape[0] for m in dense.values())
    assert (report.achieved, report.bits_per_weight) == (8, pytest.approx(8 + rows * 16 / report.n_weights))


@pytest.mark.parametrize(("bits", "symmetric", "want"), [(4, True, 4 + 16 / 16), (4, False, 4 + 32 / 16), (2, True, 2 + 16 / 16)])
def test_effective_bits(loaded: Load, bits: int, symmetric: bool, want: float) -> None:
    """Codes, and 16 bits per step and zero point of a group; per tensor these are nothing much."""
    model = loaded("llama")
    (report,) = compress_(model, spec(step("rtn", "*.o_proj", bits, group=16, symmetric=symmetric))).steps
    assert report.bits_per_weight == want
    model.fresh_()
    (report,) = compress_(model, spec(step("rtn", "*.o_proj", bits, group="tensor", symmetric=symmetric))).steps
    assert report.bits_per_weight == bits + (16 if symmetric else 32) / 1024


@pytest.mark.parametrize("symmetric", [True, False])
def test_pruned_weights_stay_pruned(loaded: Load, symmetric: bool) -> None:
    """After pruning, zeros are zeros still; the codes are stored whole where a mask and the survivors would take more."""
    model = loaded("llama")
    quantized = step("rtn", "ffn", 4, group=16, symmetric=symmetric)
    pruned, rounded = compress_(model, spec(step("l1_global", "ffn", 0.2), quantized)).steps
    assert rounded.n_zeros >= pruned.n_zeros == rounded.n_zeros_before
    assert rounded.bits_per_weight == 4 + (1 if symmetric else 2)
    model.fresh_()
    sparse = compress_(model, spec(step("l1_global", "ffn", 0.75), quantized)).steps[1]
    kept = 1 - sparse.n_zeros / sparse.n_weights
    assert sparse.bits_per_weight == pytest.approx(4 * kept + 1 + (1 if symmetric else 2))


def test_pruning_and_rounding_in_any_order(loaded: Load) -> None:
    """Interleaved, each step does its part: more zeros, fewer levels; a grid outlives pruning."""
    model = loaded("bert")
    steps = [step("l1_global", "ffn", 0.2), step("rtn", "ffn", 8), step("l1_global", "ffn", 0.4), step("rtn", "ffn", 3)]
    reports = compress_(model, spec(*steps)).steps
    assert [report.n_changed > 0 for report in reports] == [True] * 4
    assert [report.achieved for report in reports[1::2]] == [8, 3]
    assert reports[3].n_zeros >= reports[2].n_zeros == int(0.4 * reports[2].n_weights)
    model.fresh_()
    rounded, pruned = compress_(model, spec(step("rtn", "ffn", 4), step("l1_per_matrix", "ffn", 0.9))).steps
    assert pruned.bits_per_weight == pytest.approx(4 * 0.1 + 1 + rounded.bits_per_weight - 4, abs=0.01)


def test_the_last_format_counts(loaded: Load) -> None:
    """Fewer bits after more, a cast after rounding, and dynamic int8 after both: what stands last is what is stored."""
    model = loaded("llama")
    scope = "*.o_proj"
    case = spec(step("rtn", scope, 8, group=16), step("rtn", scope, 4, group=16), step("cast", scope, 8, format="fp8_e5m2"))
    assert [report.bits_per_weight for report in compress_(model, case).steps] == [9, 5, 8.5]
    model.fresh_()
    case = spec(step("rtn", scope, 4), step("dynamic_int8", scope, 8))
    assert [report.bits_per_weight for report in compress_(model, case).steps] == [4.5, 9]
    model.cast_(torch.float32)
    finish_(model, case)
    assert int8.swapped(model) == {f"model.layers.{i}.self_attn.o_proj.weight" for i in range(2)}


def test_the_same_rounding_twice_is_refused(loaded: Load) -> None:
    """A second step of the same kind keeps the grid and so changes nothing, which a chain refuses; after pruning too."""
    quantized = step("rtn", "ffn", 4)
    for case in (spec(quantized, quantized), spec(quantized, step("random_unstructured", "ffn", 0.5), quantized)):
        with pytest.raises(CompressionError, match=r"^rtn--ffn--b4: .* got no weight changed by step \d"):
            compress_(loaded("llama"), case)
    with pytest.raises(CompressionError, match=r"^cast--ffn--b8--format-fp8_e4m3: .* got no weight changed by step 2 of 2"):
        compress_(loaded("llama"), spec(*[step("cast", "ffn", 8, format="fp8_e4m3")] * 2))


def test_weights_that_lay_on_the_grid(loaded: Load) -> None:
    """A model whose weights are bfloat16 already is not changed by a cast to it, and the report says so."""
    model = loaded("llama")
    compress_(model, spec(step("cast", "overall", 16)))
    module = type(model.module)(model.module.config)
    module.load_state_dict(model.module.state_dict())
    again = LoadedModel(name="again", family="decoder", module=module, tokenizer=model.tokenizer)
    (report,) = compress_(again, spec(step("cast", "attention", 16))).steps
    assert report.n_changed == 0
    assert report.notes == ("8 of 8 matrices lay on this grid before",)


@pytest.mark.parametrize("method", ["rtn", "cast"])
def test_no_rounding_after_dynamic_int8(loaded: Load, method: str) -> None:
    """Int8 is packed on the grid that it found: another rounding of its matrices is refused, of others it is fine."""
    case = spec(step("dynamic_int8", "ffn", 8), step(method, "overall", 8 if method == "rtn" else 16))
    with pytest.raises(CompressionError, match=rf"got model\.layers\.0\.mlp\.gate_proj on the int8 grid .* Put {method} before dynamic"):
        compress_(loaded("llama"), case)
    model = loaded("llama")
    compress_(model, spec(step("dynamic_int8", "ffn", 8), step("rtn", "attention", 4)))


def test_fp16_overflow_is_refused(loaded: Load) -> None:
    """A weight beyond 65504 would be infinite in float16: an error that names its matrix; bfloat16 and float8 hold it."""
    model = loaded("bert")
    module = type(model.module)(model.module.config)
    with torch.no_grad():
        module.bert.encoder.layer[1].output.dense.weight[3, 3] = 70000.0
    large = LoadedModel(name="large", family="encoder", module=module, tokenizer=model.tokenizer)
    with pytest.raises(CompressionError, match=r"^cast--ffn--b16--format-fp16: bert\.encoder\.layer\.1\.output\.dense: got NaN or inf"):
        compress_(large, spec(step("cast", "ffn", 16, format="fp16")))
    for params in ({"level": 16}, {"level": 8, "format": "fp8_e4m3"}):
        large.fresh_()
        compress_(large, spec(step("cast", "ffn", **params)))


def fitted(targets: Targets, step: CompressionStep, **other: Any) -> None:
    """Round in another way than asked, and record what was done."""
    asked = {"bits": int(step.level), "group": int(step.param("group")), "symmetric": bool(step.param("symmetric"))}
    for item in targets.items:
        grid = Grid.of(item.weight, **(asked | other))
        grid.round_(item.weight)
        targets.formats[item.matrix.name] = grid


def pretend(targets: Targets, step: CompressionStep, **other: Any) -> None:
    """Round in another way than asked, and record that it was done as asked."""
    before = {item.matrix.name: item.weight.clone() for item in targets.items}
    fitted(targets, step, **other)
    for item in targets.items:
        name = item.matrix.name
        done = targets.formats[name]
        assert isinstance(done, Grid)
        claimed = Grid.of(before[name], bits=int(step.level), group=int(step.param("group")), symmetric=bool(step.param("symmetric")))
        if done.scale.shape == claimed.scale.shape:
            claimed = dataclasses.replace(claimed, scale=done.scale, zero=done.zero)
        targets.formats[name] = claimed


def wrong_axis(targets: Targets, step: CompressionStep) -> None:
    """Share steps along the outputs."""
    for item in targets.items:
        turned = item.weight.t().contiguous()
        grid = Grid.of(turned, bits=int(step.level), group=int(step.param("group")), symmetric=bool(step.param("symmetric")))
        grid.round_(turned)
        item.weight.copy_(turned.t())
        shape = (item.weight.shape[0], -1)
        same = grid.scale.numel() % shape[0] == 0
        scale, zero = (t.reshape(shape) if same else t for t in (grid.scale, grid.zero))
        targets.formats[item.matrix.name] = dataclasses.replace(grid, scale=scale, zero=zero)


def skip_one(targets: Targets, step: CompressionStep) -> None:
    """Leave out the second matrix."""
    rtn(dataclasses.replace(targets, items=(targets.items[0], *targets.items[2:])), step)


def skip_one_quietly(targets: Targets, step: CompressionStep) -> None:
    """Leave out the second matrix, but record its grid."""
    skip_one(targets, step)
    item = targets.items[1]
    targets.formats[item.matrix.name] = Grid.of(item.weight, bits=4, group=16, symmetric=bool(step.param("symmetric")))


def nothing(targets: Targets, step: CompressionStep) -> None:
    """Leave all weights alone, but record their grids."""
    saved = [item.weight.clone() for item in targets.items]
    rtn(targets, step)
    for item, weight in zip(targets.items, saved, strict=True):
        item.weight.copy_(weight)


def not_even_recorded(targets: Targets, step: CompressionStep) -> None:
    """Do nothing."""
    del targets, step


def downwards(targets: Targets, step: CompressionStep) -> None:
    """Move the first weight of each group one step too far towards zero."""
    rtn(targets, step)
    for item in targets.items:
        grid = targets.formats[item.matrix.name]
        assert isinstance(grid, Grid)
        for part, scale, _ in grid.per_group(item.weight):
            part[:, :, 0] -= part[:, :, 0].sign() * scale[:, :, 0]


def infinite_step(targets: Targets, step: CompressionStep) -> None:
    """Record steps that say nothing."""
    rtn(targets, step)
    grid = targets.formats[targets.items[2].matrix.name]
    assert isinstance(grid, Grid)
    grid.scale[0, 0] = torch.inf


def half_a_zero_point(targets: Targets, step: CompressionStep) -> None:
    """Use zero points between the codes."""
    for item in targets.items:
        grid = Grid.of(item.weight, bits=int(step.level), group=16, symmetric=bool(step.param("symmetric")))
        grid = dataclasses.replace(grid, zero=grid.zero + 0.5)
        grid.round_(item.weight)
        targets.formats[item.matrix.name] = grid


def not_a_number(targets: Targets, step: CompressionStep) -> None:
    """Leave a NaN."""
    rtn(targets, step)
    targets.items[1].weight[0, 0] = torch.nan


FIRST = r"model\.layers\.0\.self_attn\.q_proj"
SECOND = r"model\.layers\.0\.self_attn\.k_proj"
ALL = rf"{FIRST}, {SECOND}, .* and 5 more"


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("method", "text"),
    [
        pytest.param(lambda t, s: fitted(t, s, bits=3), f"{ALL}: got no such format recorded", id="too-few-bits"),
        pytest.param(lambda t, s: fitted(t, s, bits=5), f"{ALL}: got no such format recorded", id="too-many-bits"),
        pytest.param(lambda t, s: pretend(t, s, bits=3), f"{ALL}: got a grid wider than its weights", id="too-few-bits-hidden"),
        pytest.param(
            lambda t, s: pretend(t, s, bits=5), f"{ALL}: got (values beyond the last|steps or zero points)", id="too-many-bits-hidden"
        ),
        pytest.param(lambda t, s: fitted(t, s, group=32), f"{ALL}: got no such format recorded", id="wrong-group"),
        pytest.param(lambda t, s: pretend(t, s, group=32), f"{ALL}: got weights off their grid", id="group-too-large-hidden"),
        pytest.param(lambda t, s: pretend(t, s, group=8), f"{ALL}: got weights off their grid", id="group-too-small-hidden"),
        pytest.param(lambda t, s: pretend(t, s, group=-1), f"{ALL}: got weights off their grid", id="per-tensor-hidden"),
        pytest.param(wrong_axis, rf"{FIRST}, .*: got (no such format recorded|weights off their grid)", id="wrong-axis"),
        pytest.param(skip_one, f"{SECOND}: got no such format recorded", id="skips-one"),
        pytest.param(skip_one_quietly, f"{SECOND}: got weights off their grid", id="skips-one-hidden"),
        pytest.param(nothing, f"{ALL}: got weights off their grid", id="nothing-done"),
        pytest.param(not_even_recorded, f"{ALL}: got no grid recorded", id="nothing-done-nor-recorded"),
        pytest.param(downwards, f"{FIRST}, .*: got weights moved by more than half a step", id="not-the-nearest"),
        pytest.param(infinite_step, r"model\.layers\.0\.self_attn\.v_proj: got steps or zero points that are none", id="bad-step"),
        pytest.param(half_a_zero_point, f"{ALL}: got steps or zero points that are none", id="bad-zero-point"),
        pytest.param(not_a_number, f"{SECOND}: got NaN or infinite weights", id="nan"),
    ],
)
def test_bad_rounding_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch, method: Any, text: str, symmetric: bool) -> None:
    """A method that does something else than it says is an error of one line that names the matrices; the dense model comes back."""
    model = loaded("llama")
    dense = matrices(model, "overall")
    case = step("rtn", "attention", 4, group=16, symmetric=symmetric)
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=f"^rtn--attention--b4--group-16--symmetric-{symmetric}: {text}") as caught:
        compress_(model, spec(case))
    assert "\n" not in str(caught.value)
    model.fresh_()
    assert all(np.array_equal(values, dense[name]) for name, values in matrices(model, "overall").items())


def test_a_matrix_left_out_of_a_later_step_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid of an earlier step does not count for the next one."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: lambda t, s: skip_one(t, s) if s.level == 4 else rtn(t, s))
    with pytest.raises(CompressionError, match=rf"^rtn--attention--b4: {SECOND}: got no such format recorded"):
        compress_(loaded("llama"), spec(step("rtn", "attention", 8), step("rtn", "attention", 4)))


def in_format(name: str, recorded: str, factor: float = 1) -> Callable[[Targets, CompressionStep], None]:
    """Return a method that casts to one format, with other scales, and records another."""

    def method(targets: Targets, step: CompressionStep) -> None:
        del step
        for item in targets.items:
            done, claimed = Float.of(item.weight, name), Float.of(item.weight, recorded)
            if done.scale is not None:
                done = claimed = dataclasses.replace(claimed, scale=done.scale * factor)
            done.round_(item.weight)
            targets.formats[item.matrix.name] = claimed

    return method


def whole_scale(targets: Targets, step: CompressionStep) -> None:
    """Use one scale for a whole matrix."""
    for item in targets.items:
        form = Float.of(item.weight, str(step.param("format")))
        assert form.scale is not None
        form.scale.fill_(form.scale.max())
        form.round_(item.weight)
        targets.formats[item.matrix.name] = form


@pytest.mark.parametrize(
    ("method", "name", "text"),
    [
        (in_format("bf16", "fp16"), "fp16", "got weights moved by more than half a step"),
        (in_format("fp16", "bf16"), "bf16", "got weights off their grid"),
        (in_format("fp16", "fp16"), "bf16", "got no such format recorded"),
        (in_format("fp8_e5m2", "fp8_e5m2"), "fp8_e4m3", "got no such format recorded"),
        (in_format("fp8_e4m3", "fp8_e4m3", 8), "fp8_e4m3", "got a grid wider than its weights"),
        (in_format("fp8_e4m3", "fp8_e4m3", 0.5), "fp8_e4m3", "got weights moved by more than half a step"),
        (whole_scale, "fp8_e4m3", "got a grid wider than its weights"),
        (not_even_recorded, "bf16", "got no grid recorded"),
    ],
)
def test_bad_casts_are_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch, method: Any, name: str, text: str) -> None:
    """Another format, or scales that are not of the rows, are errors that name the matrices."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=rf"^cast--.*: {FIRST}, .*: {text}"):
        compress_(loaded("llama"), spec(step("cast", "attention", 8 if name.startswith("fp8") else 16, format=name)))


def test_a_format_that_a_later_step_leaves_is_not_counted(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that moves weights off an earlier grid ends its bits: they count as float32 again."""

    def noise(targets: Targets, step: CompressionStep) -> None:
        if step.method == "rtn":
            rtn(targets, step)
        else:
            for item in targets.items:
                item.weight.add_(0.001)

    monkeypatch.setattr(lifecycle, "load_target", lambda _: noise)
    monkeypatch.setattr(lifecycle, "check_step", unchecked)
    case = spec(step("rtn", "*.o_proj", 4), step("quantize_dynamic", "*.o_proj", 8))
    assert [report.bits_per_weight for report in compress_(loaded("llama"), case).steps] == [4.5, 32]


def unchecked(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor]) -> Any:
    """Count what a step changed, and check nothing."""
    from pytest_kick.compress.check import Checked, count_changes  # noqa: PLC0415 - beside the only use

    del step
    return {t.matrix.name: count_changes(before[t.matrix.name].numpy().reshape(-1), t.flat()) for t in targets.items}, Checked()
