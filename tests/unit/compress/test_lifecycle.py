"""Compressing whole models: what changes, what stays, what is reported, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pytest_kick.compress import Targets, compress_, finish_, int8, lifecycle, prune, rank
from pytest_kick.errors import CompressionError, ScopeError
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.scopes import select
from pytest_kick.spec import CompressionSpec, CompressionStep

Load = Callable[[str], LoadedModel]
KINDS = ("llama", "bert", "albert", "t5", "gpt2", "neox", "mixtral")
PRUNERS = ("l1_global", "l1_per_matrix", "random_unstructured", "ln_structured", "random_structured")


def spec(*steps: tuple[str, str, float], **params: Any) -> CompressionSpec:
    """Make a compression of (method, scope, level) steps; the parameters go to all of them."""
    return CompressionSpec(
        steps=tuple(CompressionStep(method=m, scope=s, level=level, params=tuple(params.items())) for m, s, level in steps)
    )


def weights(model: LoadedModel) -> dict[str, np.ndarray]:
    """Copy all parameters."""
    return {name: p.detach().numpy().copy() for name, p in model.module.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", PRUNERS)
@pytest.mark.parametrize("scope", ["attention", "ffn"])
def test_pruning_touches_its_scope_only(loaded: Load, kind: str, method: str, scope: str) -> None:
    """Counted apart from the tool's own check: zeros are in the scope only, survivors are bit-equal, and fresh_ undoes all."""
    model = loaded(kind)
    dense = weights(model)
    report = compress_(model, spec((method, scope, 0.3)))
    now = weights(model)
    names = {m.parameter for m in select(model.module, model.family, scope)}
    assert {name for name in now if not np.array_equal(now[name], dense[name])} == names
    zeros = sum(int((now[name] == 0).sum()) for name in names)
    n = sum(now[name].size for name in names)
    (step,) = report.steps
    assert (step.n_weights, step.n_zeros, step.achieved) == (n, zeros, zeros / n)
    if method == "l1_global":
        assert zeros == n * 3 // 10
    assert all(np.array_equal(now[name][now[name] != 0], dense[name][now[name] != 0]) for name in names)
    model.fresh_()
    assert all(np.array_equal(value, dense[name]) for name, value in weights(model).items())


def test_equal_parameter_counts(loaded: Load) -> None:
    """With sparsity_of, the ffn loses as many weights as a share of the body or of attention; too many is an error."""
    model = loaded("llama")
    attention, ffn = (sum(m.n for m in select(model.module, "decoder", scope)) for scope in ("attention", "ffn"))
    (step,) = compress_(model, spec(("l1_global", "ffn", 0.3), sparsity_of="model")).steps
    assert step.n_zeros == (attention + ffn) * 3 // 10
    assert step.achieved == pytest.approx(0.3, abs=1e-4)
    model.fresh_()
    (step,) = compress_(model, spec(("l1_global", "ffn", 0.3), sparsity_of="attention")).steps
    assert step.n_zeros == attention * 3 // 10
    model.fresh_()
    with pytest.raises(CompressionError, match=r"asks for \d+ zeros, expected at most"):
        compress_(model, spec(("l1_global", "attention", 0.9), sparsity_of="model"))


def test_conv1d_rows_are_outputs(loaded: Load) -> None:
    """A row of GPT-2's transposed weight is a column of the parameter."""
    model = loaded("gpt2")
    compress_(model, spec(("ln_structured", "*.mlp.c_fc", 0.25)))
    weight = model.module.transformer.h[0].mlp.c_fc.weight.detach().numpy()
    dense = model.dense("transformer.h.0.mlp.c_fc.weight").numpy()
    smallest = np.argsort(np.abs(dense).sum(axis=0))[:12]
    assert sorted(np.flatnonzero(~weight.any(axis=0))) == sorted(smallest)


@pytest.mark.parametrize("kind", ["llama", "bert", "t5"])
@pytest.mark.parametrize("method", ["l1_global", "dynamic_int8"])
def test_head_never_changes_the_input_embedding(loaded: Load, kind: str, method: str) -> None:
    """A tied head is untied for its cell, and the report says so; the next cell has the tie again."""
    model = loaded(kind)
    table = model.module.get_input_embeddings().weight
    dense = table.detach().clone()
    head = model.module.get_output_embeddings().weight
    case = spec((method, "head", 8 if method == "dynamic_int8" else 0.5))
    (step,) = compress_(model, case).steps
    assert ("head untied from the input embedding" in step.notes) == (head is table)
    assert not torch.equal(model.module.get_output_embeddings().weight, dense)
    model.cast_(torch.float32)
    finish_(model, case)
    assert torch.equal(model.module.get_input_embeddings().weight, dense)
    model.fresh_()
    assert (model.module.get_output_embeddings().weight is model.module.get_input_embeddings().weight) == (head is table)


@pytest.mark.parametrize("kind", ["llama", "bert", "t5"])
def test_overall_leaves_the_head(loaded: Load, kind: str) -> None:
    """Overall does not hold the vocabulary layer."""
    model = loaded(kind)
    compress_(model, spec(("l1_global", "overall", 0.9)))
    assert bool(model.module.get_output_embeddings().weight.all())


def test_norm_weights_are_marked(loaded: Load) -> None:
    """An explicit pattern reaches norm weights, and the report warns."""
    model = loaded("bert")
    with torch.no_grad():
        (step,) = compress_(model, spec(("random_unstructured", "*.attention.output.LayerNorm.weight", 0.5))).steps
    assert step.notes == ("unsafe: 2 norm or router weights in the scope",)
    assert step.n_zeros == 32


def test_dense_has_no_steps(loaded: Load) -> None:
    """No steps: nothing is touched, the sizes are reported."""
    model = loaded("llama")
    report = compress_(model, spec())
    finish_(model, spec())
    assert report.steps == ()
    assert report.n_body == sum(m.n for m in select(model.module, "decoder", "overall"))
    assert report.n_total == sum(p.numel() for p in model.module.parameters())


def test_effective_bits(loaded: Load) -> None:
    """Kept values, the mask that says where they are, and scales; dense weights count 32."""
    model = loaded("llama")
    (step,) = compress_(model, spec(("l1_per_matrix", "*.o_proj", 0.5))).steps
    assert step.bits_per_weight == 16 + 1
    model.fresh_()
    (step,) = compress_(model, spec(("dynamic_int8", "*.o_proj", 8))).steps
    assert step.bits_per_weight == 8 + 32 / 32
    model.fresh_()
    (step,) = compress_(model, spec(("ln_structured", "*.o_proj", 0.5))).steps
    assert step.bits_per_weight == 16 + 1 / 32


def skip_one(targets: Targets, step: CompressionStep) -> None:
    """Leave out the second matrix and make up for it in the others."""
    rest = Targets(items=(targets.items[0], *targets.items[2:]), n_body=0, n_attention=0)
    n = int(step.level * targets.n)
    rank.zero_smallest_([item.flat() for item in rest.items], n)


def too_little(targets: Targets, step: CompressionStep) -> None:
    """Prune one weight less."""
    rank.zero_smallest_([item.flat() for item in targets.items], prune.asked_zeros(targets, step) - 1)


def wrong_tail(targets: Targets, step: CompressionStep) -> None:
    """Drop the largest weights."""
    for item in targets.items:
        flat = item.flat()
        flat[np.argsort(-np.abs(flat))[: int(step.level * flat.size)]] = 0


def shift_survivors(targets: Targets, step: CompressionStep) -> None:
    """Prune, and rescale what is left of one matrix."""
    prune.l1_global(targets, step)
    targets.items[3].weight.mul_(1.5)


def nothing(targets: Targets, step: CompressionStep) -> None:
    """Do nothing."""
    del targets, step


def not_a_number(targets: Targets, step: CompressionStep) -> None:
    """Leave a NaN."""
    prune.l1_global(targets, step)
    targets.items[1].weight[0, 0] = torch.nan


def crash(targets: Targets, step: CompressionStep) -> None:
    """Raise something."""
    del targets, step
    msg = "two\nlines"
    raise RuntimeError(msg)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (skip_one, "layers.0.self_attn.k_proj: kept weights smaller"),
        (too_little, "zeros in the scope, expected"),
        (wrong_tail, "kept weights smaller"),
        (shift_survivors, "layers.0.self_attn.o_proj: got survivors"),
        (nothing, "got 0 zeros in the scope"),
        (not_a_number, "layers.0.self_attn.k_proj: got NaN"),
        (crash, r"got RuntimeError \(two lines\)"),
    ],
)
def test_bad_pruning_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch, method: Any, text: str) -> None:
    """A method that does something else than it says is an error of one line that names the matrices."""
    model = loaded("llama")
    dense = weights(model)
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=text) as caught:
        compress_(model, spec(("l1_global", "attention", 0.4)))
    assert "\n" not in str(caught.value)
    model.fresh_()
    assert all(np.array_equal(value, dense[name]) for name, value in weights(model).items())


def test_bad_per_matrix_pruning_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each matrix has its own count, the one that was left out is named."""

    def skip(targets: Targets, step: CompressionStep) -> None:
        prune.random_unstructured(Targets(items=targets.items[1:], n_body=0, n_attention=0), step)

    monkeypatch.setattr(lifecycle, "load_target", lambda _: skip)
    with pytest.raises(CompressionError, match=r"model\.layers\.0\.self_attn\.q_proj: got 0 zeros there, expected 204"):
        compress_(loaded("llama"), spec(("random_unstructured", "attention", 0.2)))


def test_bad_structured_pruning_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scattered zeros are no rows, however many they are."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: prune.l1_per_matrix)
    with pytest.raises(CompressionError, match="rows wholly zero"):
        compress_(loaded("llama"), spec(("ln_structured", "attention", 0.25)))


@pytest.mark.parametrize("how", ["torch", "data", "bias"])
def test_a_change_outside_the_scope_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A write to another module is found, whichever way it was made."""
    model = loaded("bert") if how == "bias" else loaded("llama")
    module = model.module.bert.encoder.layer[0] if how == "bias" else model.module.model.layers[1].mlp
    other = module.output.dense.bias if how == "bias" else module.up_proj.weight
    saved = other.detach().clone()

    def stray(targets: Targets, step: CompressionStep) -> None:
        prune.l1_global(targets, step)
        (other if how == "torch" else other.data)[0] += 1

    compress_(model, spec(("l1_global", "attention", 0.1)))
    model.fresh_()
    monkeypatch.setattr(lifecycle, "load_target", lambda _: stray)
    with pytest.raises(CompressionError, match="a change outside the scope 'attention'"):
        compress_(model, spec(("l1_global", "attention", 0.4)))
    other.data.copy_(saved)
    model._versions = {name: p._version for name, p in model._originals.items()}
    model.fresh_()


def test_a_later_step_leaves_earlier_ones_alone(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first step pruned is outside the second one's scope, and compared."""
    model = loaded("gpt2")
    first = model.module.transformer.h[0].attn.c_proj.weight
    compress_(model, spec(("l1_global", "attention", 0.2), ("l1_global", "ffn", 0.3)))
    model.fresh_()

    def stray(targets: Targets, step: CompressionStep) -> None:
        prune.l1_global(targets, step)
        if step.scope == "ffn":
            first.data[0, 0] += 1

    monkeypatch.setattr(lifecycle, "load_target", lambda _: stray)
    with pytest.raises(CompressionError, match=r"transformer\.h\.0\.attn\.c_proj: got a change outside the scope 'ffn'"):
        compress_(model, spec(("l1_global", "attention", 0.2), ("l1_global", "ffn", 0.3)))


def test_pruning_again_counts_what_is_zero_already(loaded: Load) -> None:
    """A higher level goes on from the zeros of the step before; they are not counted twice."""
    report = compress_(loaded("llama"), spec(("l1_global", "attention", 0.5), ("l1_global", "attention", 0.6)))
    assert [step.n_zeros for step in report.steps] == [report.steps[0].n_weights * tenths // 10 for tenths in (5, 6)]
    assert report.steps[1].n_changed == report.steps[1].n_zeros - report.steps[0].n_zeros


@pytest.mark.parametrize("method", PRUNERS)
@pytest.mark.parametrize("lower", [0.25, 0.5])
def test_a_step_that_changes_nothing_is_refused(loaded: Load, method: str, lower: float) -> None:
    """A chain whose later step finds its level met is an error that names the step and its matrices, wherever the step stands."""
    message = (
        rf"^{method}--attention--s{lower}: model\.layers\.0\.self_attn\.q_proj, .* and 5 more: got no weight changed by step 2 of 3, since"
        r" what stood before it meets its level, expected each step of a chain to change some\. Leave the step out, or raise its level\.$"
    )
    with pytest.raises(CompressionError, match=message):
        compress_(loaded("llama"), spec((method, "attention", 0.5), (method, "attention", lower), (method, "attention", 0.75)))


def test_quantizing_twice_is_refused(loaded: Load) -> None:
    """A second int8 step on the same matrices leaves them on the first one's grid: nothing changed, an error."""
    with pytest.raises(CompressionError, match=r"^dynamic_int8--ffn--b8: .* got no weight changed by step 2 of 2"):
        compress_(loaded("llama"), spec(("dynamic_int8", "overall", 8), ("dynamic_int8", "ffn", 8)))


def test_a_sparse_model_may_meet_a_level_by_itself(loaded: Load) -> None:
    """One step on a model that is sparse already changes nothing and says so; in a chain the same step is an error."""
    dense = loaded("llama")
    module = copy.deepcopy(dense.module)
    with torch.no_grad():
        for matrix in select(module, "decoder", "attention"):
            module.get_parameter(matrix.parameter)[: matrix.shape[0] // 2] = 0
    sparse = LoadedModel(name="sparse", family="decoder", module=module, tokenizer=dense.tokenizer)
    (step,) = compress_(sparse, spec(("l1_global", "attention", 0.3))).steps
    assert (step.n_changed, step.achieved) == (0, 0.5)
    assert step.notes == ("already more zeros than asked in 8 of 8 matrices",)
    sparse.fresh_()
    with pytest.raises(CompressionError, match=r"^l1_global--attention--s0\.3: .* got no weight changed by step 1 of 2"):
        compress_(sparse, spec(("l1_global", "attention", 0.3), ("dynamic_int8", "ffn", 8)))


def test_unknown_scope(loaded: Load) -> None:
    """A scope that names nothing is an error before anything is touched."""
    with pytest.raises(ScopeError, match="names no matrix"):
        compress_(loaded("llama"), spec(("l1_global", "*.nothing", 0.2)))


def test_finish_without_compress(loaded: Load) -> None:
    """finish_ refuses a model that was not compressed as the spec says."""
    model = loaded("llama")
    compress_(model, spec(("dynamic_int8", "ffn", 8)))
    model.cast_(torch.float32)
    with pytest.raises(CompressionError, match="was not compressed so"):
        finish_(model, spec(("dynamic_int8", "attention", 8)))


def test_a_module_that_is_not_swapped_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """When packing leaves a layer out, finish_ names it."""
    model = loaded("llama")
    case = spec(("dynamic_int8", "ffn", 8))
    compress_(model, case)
    model.cast_(torch.float32)
    swap = int8.swap_
    monkeypatch.setattr(int8, "swap_", lambda m, packed: swap(m, list(packed)[1:]))
    with pytest.raises(CompressionError, match=r"layers\.0\.mlp\.gate_proj\.weight: got 1 modules not swapped"):
        finish_(model, case)
