"""Dropped heads, neurons and blocks: the model gives what one without them gives, on every architecture, and counts are right."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_zoo import DEPTH, ZOO, D, F, build, fresh, logits, twin

import pytest_kick
from pytest_kick.catalog import catalog
from pytest_kick.compress import Calibrator, Targets, compress_, drop, finish_, lifecycle
from pytest_kick.compress.check_registered import Declared
from pytest_kick.compress.formats import Float, Grid
from pytest_kick.compress.library_formats import Affine, Blocks, Int8Rows, Scaled
from pytest_kick.compress.rounding import PER_TENSOR
from pytest_kick.errors import CompressionError
from pytest_kick.models.cache import ModelCache
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.scopes import select
from pytest_kick.registry import METHODS
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kick.result import StepReport

OUTPUTS = (
    "attention.output.dense", "attention.out_lin", "attention.dense", "attn.Wo", "SelfAttention.o", "EncDecAttention.o",
    "self_attn.out_proj", "encoder_attn.out_proj", "self_attn.o_proj", "self_attn.dense", "attn.c_proj",
)  # fmt: skip
DOWNS = ("output.dense", "ffn.lin2", "ffn_output", "mlp.Wo", "DenseReluDense.wo", "fc2", "mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h")
GROUPED = ("Llama", "Mistral", "Qwen", "Gemma", "Phi", "Mixtral")
STACKS = ("layer", "layers", "block", "h")


def spec(method: str, level: float, scope: str = "overall", unit: str = "", **params: Any) -> CompressionSpec:
    """Make a compression of one step."""
    return CompressionSpec(steps=(CompressionStep(method=method, scope=scope, level=level, unit=unit, params=tuple(params.items())),))


def run(model: LoadedModel, what: CompressionSpec) -> tuple[StepReport, torch.Tensor]:
    """Compress, and return the report and what the model gives."""
    report = compress_(model, what)
    model.cast_(torch.float32)
    finish_(model, what)
    return report.steps[-1], logits(model.module)


def kept_bits(model: LoadedModel) -> bool:
    """Say whether each parameter is what it was, or zero where it is not; vectors all as they were."""
    pairs = [(p.detach(), model.dense(name)) for name, p in model.module.named_parameters()]
    return all(bool(((new == old) | (new == 0)).all()) and (new.ndim > 1 or new.equal(old)) for new, old in pairs)


def last_of(module: Any, ends: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Find the modules that end attentions, or feed-forward layers, by their names in each architecture's code."""
    for name, child in module.named_modules():
        if name.endswith(ends) and hasattr(child, "weight") and not (ends == DOWNS and name.endswith("attention.output.dense")):
            yield name, child


def inputs_of(child: Any) -> torch.Tensor:
    """Return the weights by input, `(in, out)`."""
    weight = child.weight.detach()
    return weight if type(child).__name__ == "Conv1D" else weight.T


def mute_(child: Any, gone: torch.Tensor) -> None:
    """Set inputs of a layer to zero whenever it is called."""
    child.register_forward_pre_hook(lambda _, args: (args[0].masked_fill(gone, 0.0),))


def muted(model: LoadedModel, dense: Any, ends: tuple[str, ...], unit: Callable[[str], int], n: Callable[[str], int]) -> int:
    """Mute, in the dense twin, the inputs that the compressed model has zero weights for; they are so many whole units of a layer each."""
    found = 0
    for name, child in last_of(model.module, ends):
        gone = ~inputs_of(child).any(dim=1)
        parts = gone.view(-1, unit(name))
        assert torch.equal(parts.all(dim=1), parts.any(dim=1))
        assert int(parts.all(dim=1).sum()) == n(name)
        mute_(dense.get_submodule(name), gone)
        found += 1
    return found


@pytest.mark.parametrize("order", ["norm", "random"])
@pytest.mark.parametrize("name", ZOO)
def test_dropped_heads_give_nothing(name: str, order: str) -> None:
    """The model gives what the dense one gives when what the heads hand to the output projection is zero; groups go as one."""
    model = fresh(name)
    dense = twin(model)
    step, given = run(model, spec("drop_heads", 0.5, order=order))
    grouped = name.startswith(GROUPED)
    two = name.startswith("Bart")  # its decoder has two heads of 16
    width = 32 if name == "GemmaForCausalLM" else 16 if grouped else 8
    per_unit = {
        "unit": lambda at: 16 if two and "decoder" in at else width,
        "n": lambda at: 1 if grouped or (two and "decoder" in at) else 2,
    }
    assert muted(model, dense, OUTPUTS, **per_unit) == {"encoder": 1 if "Albert" in name else 3, "decoder": 3}.get(model.family, 9)
    torch.testing.assert_close(given, logits(dense), rtol=1e-4, atol=1e-4)
    assert kept_bits(model)
    attention = sum(m.n for m in select(dense, model.family, "attention"))
    assert (step.achieved, step.n_zeros, step.n_zeros_before) == (0.5, attention // 2, 0)
    model.fresh_()
    torch.testing.assert_close(logits(model.module), logits(twin(model)), rtol=0, atol=0)
    assert not torch.allclose(given, logits(model.module), atol=1e-2)


@pytest.mark.parametrize("name", ZOO)
def test_dropped_neurons_give_nothing(name: str) -> None:
    """The model gives what the dense one gives when the neurons' activations are zero, each expert's its own."""
    model = fresh(name)
    dense = twin(model)
    step, given = run(model, spec("drop_neurons", 5, unit="count", order="random", seed=3))
    if name.startswith("Mixtral"):
        for mine, other in zip(model.module.model.layers, dense.model.layers, strict=True):  # type: ignore[union-attr]
            gone = ~mine.mlp.experts.down_proj.any(dim=1)
            assert gone.sum(dim=1).tolist() == [5, 5, 5]
            assert len({tuple(line) for line in gone.tolist()}) == 3
            other.mlp.experts.down_proj.detach().masked_fill_(gone[:, None, :], 0.0)
    else:
        layers = muted(model, dense, DOWNS, unit=lambda _: 1, n=lambda _: 5)
        assert layers == {"encoder": 1 if "Albert" in name else 3, "decoder": 3}.get(model.family, 6)
    torch.testing.assert_close(given, logits(dense), rtol=1e-4, atol=1e-4)
    assert kept_bits(model)
    ffn = sum(m.n for m in select(dense, model.family, "ffn"))
    assert (step.achieved, step.n_zeros) == (5.0, ffn // F * 5)


def without(module: Any, dropped: dict[str, list[int]]) -> None:
    """Take blocks out of a module's lists of them, by stack."""
    config = module.config
    for stack, places in dropped.items():
        blocks = module.get_submodule(stack)
        for place in sorted(places, reverse=True):
            del blocks[place]
            if getattr(config, "layer_types", None):
                del config.layer_types[place]
    if getattr(config, "layer_types", None):
        config.num_hidden_layers = len(config.layer_types)


@pytest.mark.parametrize(("order", "place"), [("deep", 1), ("even", 1), ("last", 2)])
@pytest.mark.parametrize("name", [name for name in ZOO if not name.startswith("Albert")])
def test_dropped_layers_are_not_there(name: str, order: str, place: int) -> None:
    """The model gives, bit for bit, what a model gives that was built without the block, whatever its biases and norms."""
    model = fresh(name)
    dense = twin(model)
    step, given = run(model, spec("drop_layers", 1, unit="count", order=order))
    stacks = [at for at, child in dense.named_modules() if isinstance(child, torch.nn.ModuleList) and len(child) == DEPTH]
    stacks = [at for at in stacks if at.rpartition(".")[2] in STACKS and not re.search(r"\.\d", at)]
    assert len(stacks) == (2 if model.family == "encoder-decoder" else 1)
    without(dense, {stack: [place] for stack in stacks})
    assert torch.equal(given, logits(dense))
    assert kept_bits(model)
    blocks = [m for m in select(model.module, model.family, "overall") if any(m.module.startswith(f"{at}.{place}.") for at in stacks)]
    assert (step.achieved, step.n_zeros) == (1.0, sum(m.n for m in blocks))
    model.fresh_()
    assert not torch.allclose(given, logits(model.module), atol=1e-2)


def test_the_first_block_of_a_t5() -> None:
    """Its position bias is that of all blocks, and stays when it is dropped."""
    model = fresh("T5ForConditionalGeneration")
    dense = twin(model)
    for stack in ("encoder", "decoder"):
        first, second = dense.get_submodule(f"{stack}.block")[:2]
        second.layer[0].SelfAttention.has_relative_attention_bias = True
        second.layer[0].SelfAttention.relative_attention_bias = first.layer[0].SelfAttention.relative_attention_bias
    without(dense, {"encoder.block": [0], "decoder.block": [0]})
    _, given = run(model, spec("drop_layers", 1, scope="*.block.0.*,*.block.1.*", unit="count"))
    assert torch.equal(given, logits(dense))


def test_a_smaller_model_is_the_same() -> None:
    """A llama of one key-value head fewer, and another of 20 neurons fewer, gives the same with the weights kept."""
    model = fresh("LlamaForCausalLM")
    _, given = run(model, spec("drop_heads", 1, unit="count"))
    small = build("LlamaForCausalLM", num_attention_heads=2, num_key_value_heads=1)
    kept = {name: ~(p == 0).all(dim=0) for name, p in model.module.named_parameters() if name.endswith("o_proj.weight")}
    with torch.no_grad():
        for name, p in small.named_parameters():
            big, queries = model.module.get_parameter(name).detach(), kept.get(name.replace(name.rsplit(".", 2)[-2], "o_proj"))
            pairs = queries.view(2, 16)[:, :8].reshape(-1) if queries is not None else None
            rows = {"q_proj": queries, "k_proj": pairs, "v_proj": pairs}.get(name.rsplit(".", 2)[-2])
            p.copy_(big[:, queries] if "o_proj" in name else big if rows is None else big[rows])
    torch.testing.assert_close(given, logits(small), rtol=1e-4, atol=1e-4)
    model.fresh_()
    _, given = run(model, spec("drop_neurons", 20, scope="ffn", unit="count"))
    small = build("LlamaForCausalLM", intermediate_size=F - 20)
    with torch.no_grad():
        for name, p in small.named_parameters():
            big = model.module.get_parameter(name).detach()
            big = big[:, big.any(dim=0)] if "down_proj" in name else big[big.any(dim=1)] if ".mlp." in name else big
            p.copy_(big)
    torch.testing.assert_close(given, logits(small), rtol=1e-4, atol=1e-4)


def norms_of_heads(model: LoadedModel, layer: int) -> np.ndarray:
    """Return the norms of the two groups of heads of a llama's layer, from its parameters."""
    at = model.dense
    q, k, v, o = (at(f"model.layers.{layer}.self_attn.{part}_proj.weight").numpy().astype(np.float64) for part in "qkvo")
    wide, narrow = [slice(16 * g, 16 * g + 16) for g in (0, 1)], [slice(8 * g, 8 * g + 8) for g in (0, 1)]
    return np.array([np.sqrt(sum((m**2).sum() for m in (q[w], k[n], v[n], o[:, w]))) for w, n in zip(wide, narrow, strict=True)])


def test_the_smallest_go_first() -> None:
    """Heads by the norm of queries, keys, values and output together: per layer, or over the scope, where a layer can lose all."""
    model = fresh("LlamaForCausalLM")
    norms = np.array([norms_of_heads(model, layer) for layer in range(DEPTH)])
    for among, gone in (("layer", norms == norms.min(axis=1, keepdims=True)), ("scope", norms <= np.sort(norms.ravel())[2])):
        compress_(model, spec("drop_heads", 0.5, among=among))
        found = [
            ~model.module.get_parameter(f"model.layers.{i}.self_attn.o_proj.weight").detach().view(D, 2, 16).any(2).any(0) for i in range(3)
        ]
        assert np.array_equal(torch.stack(found).numpy(), gone)
        model.fresh_()


def test_equal_shares_of_the_body() -> None:
    """At one share of the model, heads, neurons, blocks and single weights lose the same number, as far as whole units allow."""
    model = fresh("LlamaForCausalLM")
    body = 3 * (32 * 32 * 2 + 16 * 32 * 2 + 3 * 32 * 48)
    block, level = body // 3, 0.35
    found = {}
    for method, params in (
        ("drop_heads", {"among": "scope"}),
        ("drop_neurons", {"among": "scope"}),
        ("drop_layers", {}),
        ("l1_global", {}),
    ):
        (step,) = compress_(model, spec(method, level, sparsity_of="model", **params)).steps
        assert step.achieved == pytest.approx(step.n_zeros / body, abs=1e-12)
        found[method] = step.n_zeros
        model.fresh_()
    wanted = body * 35 // 100
    assert found == {
        "drop_heads": wanted // 1536 * 1536, "drop_neurons": wanted // 96 * 96, "drop_layers": block, "l1_global": wanted,
    }  # fmt: skip
    with pytest.raises(
        CompressionError, match=r"sparsity_of: got 'model', which asks for 11520 weights, expected fewer than the 9216 that"
    ):
        compress_(model, spec("drop_heads", 0.5, sparsity_of="model"))


def test_bits_are_those_of_the_smaller_model() -> None:
    """Nothing is stored of what is dropped: no code, no step of a row that is gone, no mark of a mask that stood there before."""
    model = fresh("LlamaForCausalLM")
    (step,) = compress_(model, spec("drop_neurons", 0.25, scope="ffn")).steps
    assert step.bits_per_weight == 24
    model.fresh_()
    steps = [*spec("drop_neurons", 0.25, scope="ffn").steps, CompressionStep(method="rtn", scope="ffn", level=4, params=(("group", 0),))]
    *_, step = compress_(model, CompressionSpec(steps=tuple(steps))).steps
    rows = 2 * F * 3 // 4 + D
    assert step.bits_per_weight == pytest.approx(3 + 16 * rows / (3 * D * F))
    model.fresh_()
    steps = [CompressionStep(method="l1_per_matrix", scope="ffn", level=0.5), *spec("drop_neurons", 0.25, scope="ffn").steps]
    *_, step = compress_(model, CompressionSpec(steps=tuple(steps))).steps
    assert step.bits_per_weight == pytest.approx((step.n_weights - step.n_zeros) * 32 / step.n_weights + 0.75)
    model.fresh_()
    (step,) = compress_(model, spec("drop_layers", 2, unit="count")).steps
    assert step.bits_per_weight == pytest.approx(32 / 3)


def registered(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, float]:
    """Round each row to a grid, and say that half a bit goes for steps."""
    step = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
    return (weight / step).round() * step, bits + 0.5


ROUNDINGS = {
    "rtn": ("rtn", 3, {"group": 16}, 3 + 1),
    "rtn asymmetric": ("rtn", 3, {"group": 16, "symmetric": False}, 3 + 2),
    "nf4": ("nf4", 4, {"block": 32}, 4 + 1),
    "hqq": ("hqq", 3, {"group": 16}, 3.2 + 2),
    "fp8": ("cast", 8, {"format": "fp8_e4m3"}, None),
    "llm_int8": ("llm_int8", 8, {}, None),
    "dynamic_int8": ("dynamic_int8", 8, {}, None),
    "low_rank": ("low_rank", 8, {}, None),
    "registered": ("half_more", 4, {}, 4.5),
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", ROUNDINGS)
def test_blocks_that_are_gone_cost_nothing(name: str, first: bool) -> None:
    """A model with a third of its blocks takes a third of the bits, scales and all, in every format and in either order."""
    method, level, params, bits = ROUNDINGS[name]
    for extra, of in (("bitsandbytes", "nf4"), ("hqq", "hqq")):
        if method == of:
            pytest.importorskip(extra)
    restore = METHODS.snapshot()
    pytest_kick.method("half_more")(registered)
    try:
        model = fresh("LlamaForCausalLM")
        rounding = spec(method, level, unit="rank" if method == "low_rank" else "", **params).steps[0]
        whole = compress_(model, CompressionSpec(steps=(rounding,))).steps[0].bits_per_weight
        drop_ = spec("drop_layers", 2, unit="count").steps[0]
        model.fresh_()
        *_, last = compress_(model, CompressionSpec(steps=(rounding, drop_) if first else (drop_, rounding))).steps
    finally:
        restore()
        model.fresh_()
    assert bits is None or whole == pytest.approx(bits, abs=1e-3)
    assert last.bits_per_weight == pytest.approx(whole / 3, abs=1e-3)


GROUP = 16


@pytest.mark.parametrize("method", ["rtn", "awq", "llm_int8", "low_rank"])
def test_scales_of_neurons_that_are_gone_cost_nothing(tmp_path: Path, method: str) -> None:
    """Of steps, indices and factors those count that have weights left: counted here from the zeros of each matrix."""
    model = ModelCache(tmp_path).get(catalog()["tiny-decoder"])
    calibrated = {"source": "statements", "count": 4, "length": 16} if method == "awq" else {}
    grouped = {"group": GROUP} if method in {"rtn", "awq"} else {}
    level = {"llm_int8": 8, "low_rank": 20}.get(method, 4)
    unit = "rank" if method == "low_rank" else ""
    step = spec(method, level, scope="ffn", unit=unit, **grouped, **calibrated).steps[0]
    steps = (spec("drop_neurons", 0.9, scope="ffn").steps[0], step)
    *_, report = compress_(model, CompressionSpec(steps=steps), Calibrator(cache=tmp_path)).steps
    total = 0.0
    for m in select(model.module, model.family, "ffn"):
        left = m.read(model.module.get_parameter(m.parameter).detach()) != 0
        down = "down" in m.name
        n_gone = int(0.9 * m.shape[1 if down else 0])
        gone = ~left.any(dim=0 if down else 1)
        assert int(gone.sum()) == n_gone
        rows, columns = m.shape[0] - (0 if down else n_gone), m.shape[1] - (n_gone if down else 0)
        if method == "low_rank":
            total += 32 * level * (rows + columns)
            continue
        groups = sum(1 for part in torch.split(~gone, GROUP) if part.any()) if down else m.shape[1] // GROUP
        beside = {"rtn": 16 * rows * groups, "awq": 16 * (rows * groups + columns), "llm_int8": 32 * rows}[method]
        total += level * rows * columns + beside
    assert report.bits_per_weight == pytest.approx(total / report.n_weights)


def test_scales_of_a_part() -> None:
    """Scales, indices and factors of what is left, in the formats that units cut across: counted by hand."""
    kept = torch.zeros(4, 8, dtype=torch.bool)
    kept[:3, :5] = True
    ones, order = torch.ones(4, 2), torch.tensor([0, 2, 4, 5, 1, 3, 6, 7])
    grid = Grid(bits=3, group=4, symmetric=False, scale=ones, zero=ones)
    assert (grid.side_bits, grid.side_bits_of(kept)) == (8 * 32, 6 * 32)
    kept[:, 4] = False
    assert grid.side_bits_of(kept) == 3 * 32  # the second group is gone, where inputs stand in their own order
    assert replace(grid, order=order).side_bits_of(kept) == 6 * 32 + 4 * 32
    assert replace(grid, group=PER_TENSOR, scale=torch.ones(1, 1), zero=torch.ones(1, 1)).side_bits_of(kept) == 32
    assert Scaled(grid=grid, factor=torch.ones(8)).side_bits_of(kept) == 3 * 32 + 4 * 16
    assert Float(name="fp8_e4m3", scale=torch.ones(4, 1)).side_bits_of(kept) == 3 * 16
    assert Int8Rows(scale=torch.ones(4, 1), smooth=torch.ones(8)).side_bits_of(kept) == 3 * 32 + 4 * 16
    blocks = Blocks(name="nf4", block=5, double=True, table=torch.ones(16), scale=torch.ones(7))
    assert blocks.side_bits_of(kept) == 4 * 8 + 2 * 32  # weights 0-3, 8-11 and 16-19 lie in the first four blocks of 5
    assert replace(blocks, double=False).side_bits_of(kept) == 4 * 32
    affine = Affine(bits=3, group=4, axis=0, n=32, scale=torch.ones(1, 8), zero=torch.ones(1, 8))
    assert affine.side_bits_of(kept) == 4 * 32 + round(12 * 0.2)  # a group is every eighth weight: a column
    assert Declared(bits=3, side_bits=64, counted=True).side_bits_of(kept) == 64 * 12 // 32
    none = torch.zeros(4, 8, dtype=torch.bool)
    assert [form.side_bits_of(none) for form in (grid, blocks, affine)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("method", "order"),
    [(f"drop_{what}", order) for what in ("heads", "neurons", "layers") for order in ("norm", "random")]
    + [("drop_layers", order) for order in ("deep", "last", "even")],
)
def test_what_is_gone_counts_first(method: str, order: str) -> None:
    """In a chain a higher count goes on from the lower one, whatever the order; the same one again is a step that does nothing."""
    model = fresh("BertForMaskedLM")
    one, two = (spec(method, n, unit="count", order=order).steps[0] for n in (1, 2))
    first, second = compress_(model, CompressionSpec(steps=(one, two))).steps
    assert (second.achieved, second.n_zeros, second.n_zeros_before) == (2.0, 2 * first.n_zeros, first.n_zeros)
    model.fresh_()
    with pytest.raises(CompressionError, match="got no weight changed by step 2 of 2"):
        compress_(model, CompressionSpec(steps=(two, one)))


def test_random_ones_hang_on_the_seed() -> None:
    """The same seed drops the same, another one others."""
    model = fresh("BertForMaskedLM")
    found = []
    for seed in (0, 0, 1):
        compress_(model, spec("drop_neurons", 0.5, scope="ffn", order="random", seed=seed))
        found.append(model.module.get_parameter("bert.encoder.layer.0.intermediate.dense.weight").detach().any(dim=1).tolist())
        model.fresh_()
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("name", "what", "message"),
    [
        ("Bert", spec("drop_heads", 4, unit="count"), r"--n4: count: got 4, expected fewer than the 4 heads of bert\.encoder"),
        ("Bert", spec("drop_heads", 9, unit="count"), r"expected fewer than the 4 heads of .*: one has to stay\. Lower it\.$"),
        ("Llama", spec("drop_heads", 2, unit="count"), r"expected fewer than the 2 heads of model\.layers\.0\.self_attn"),
        ("Bert", spec("drop_neurons", 48, unit="count"), r"expected fewer than the 48 neurons of bert\.encoder\.layer\.0:"),
        ("Bert", spec("drop_layers", 3, unit="count"), r"expected fewer than the 3 blocks of bert\.encoder\.layer: one has to stay"),
        ("Bert", spec("drop_heads", 0.2), r"sparsity: got 0\.2, expected at least one of the 4 heads it is a share of\. Raise it\.$"),
        ("Bert", spec("drop_layers", 0.3), r"sparsity: got 0\.3, expected at least one of the 3 blocks it is a share of"),
        ("Bert", spec("drop_heads", 0.5, scope="ffn"), r"got nothing in 'ffn' that drop_heads is about, .* the scope 'attention'"),
        ("Bert", spec("drop_neurons", 0.5, scope="attention"), r"got nothing in 'attention' that drop_neurons .* Choose the scope 'ffn'"),
        ("Bert", spec("drop_layers", 0.5, scope="head"), r"got nothing in 'head' that drop_layers is about"),
        ("Bert", spec("drop_heads", 0.5, scope="*.query"), r"got 1 of the 4 matrices of .*layer\.0\.attention, expected all, .*key"),
        ("Llama", spec("drop_neurons", 0.5, scope="*.up_proj"), r"scope: got 1 of the 3 matrices of model\.layers\.0, expected all"),
        ("Bert", spec("drop_layers", 0.5, scope="attention"), r"scope: got 4 of the 6 matrices of bert\.encoder\.layer\.0, expected all"),
        ("Albert", spec("drop_layers", 0.5), r"blocks: got albert\.encoder\.albert_layer_groups\.0 alone, expected two"),
        ("Bert", spec("drop_heads", 1, unit="count", sparsity_of="model"), r"sparsity_of: got 'model' beside a count"),
    ],
)  # fmt: skip
def test_what_cannot_be_dropped(name: str, what: CompressionSpec, message: str) -> None:
    """Too many, too few, a scope without whole units: one line that says how many there are, or what to choose."""
    model = fresh(next(kind for kind in ZOO if kind.startswith(name)))
    with pytest.raises(CompressionError, match=message) as caught:
        compress_(model, what)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(what.id)


@pytest.mark.parametrize("method", ["drop_heads", "drop_neurons"])
def test_an_unknown_architecture_is_refused(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Where the table does not say what matrices are for, or shapes do not fit, nothing is guessed."""
    model = fresh("LlamaForCausalLM")
    monkeypatch.setattr(model.module.config, "model_type", "novel")
    with pytest.raises(CompressionError, match=rf"got nothing in '\*' that {method} is about, .*none known in this 'novel'"):
        compress_(model, spec(method, 0.5, scope="*"))
    monkeypatch.undo()
    if method == "drop_heads":
        monkeypatch.setattr(model.module.config, "num_attention_heads", 3)
        with pytest.raises(
            CompressionError, match=r"heads: got .*q_proj 32x32, .* in this 'llama', expected matrices whose heads are known"
        ):
            compress_(model, spec(method, 0.5))


def test_a_block_of_another_form_is_refused() -> None:
    """A block that gives something else than hidden states cannot be skipped, and says so."""
    block = torch.nn.Linear(4, 3)
    drop.skip_(block)
    with pytest.raises(CompressionError, match=r"^drop_layers: Linear: got another output than hidden states, expected a block to skip\."):
        block(torch.ones(2, 4))


def one_less(targets: Targets, step: CompressionStep) -> None:
    """Drop less than asked in one layer."""
    drop.drop_heads(targets, step)
    items = {item.matrix.name: item.weight for item in targets.items}
    for part, like in (("q", 0), ("k", 0), ("v", 0), ("o", 1)):
        weight = items[f"model.layers.1.self_attn.{part}_proj"]
        weight.copy_(targets.module.get_parameter(f"model.layers.0.self_attn.{part}_proj.weight") * 0 + 1 + like)  # type: ignore[union-attr]


def half_a_head(targets: Targets, step: CompressionStep) -> None:
    """Leave the values of dropped heads."""
    saved = {item.matrix.name: item.weight.clone() for item in targets.items}
    drop.drop_heads(targets, step)
    for item in targets.items:
        if item.matrix.name.endswith("v_proj"):
            item.weight.copy_(saved[item.matrix.name])


def largest(targets: Targets, step: CompressionStep) -> None:
    """Drop the largest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drop, "smallest", lambda keys, k: np.argsort(np.argsort(-keys)) < k)
        drop.drop_heads(targets, step)


def single_heads(targets: Targets, step: CompressionStep) -> None:
    """Drop one query head of each group, and its neighbour's columns."""
    del step
    for item in targets.items:
        if item.matrix.name.endswith("q_proj"):
            item.weight[:8] = 0
            item.weight[16:24] = 0


def elsewhere(targets: Targets, step: CompressionStep) -> None:
    """Change a weight of the feed-forward layer too."""
    drop.drop_heads(targets, step)
    next(item.weight for item in targets.items if "mlp" in item.matrix.name)[0, 0] = 0


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (half_a_head, "got other weights changed, expected those of whole heads only"),
        (single_heads, "got other weights changed, expected those of whole heads only"),
        (elsewhere, r"mlp\.gate_proj: got other weights changed"),
        (one_less, "got other weights changed"),
        (lambda *_: None, r"model\.layers\.0\.self_attn, .*: got 0 heads dropped, expected 3\."),
        (largest, "got heads dropped that are larger than some kept, expected the smallest to go"),
    ],
)
def test_bad_heads_are_refused(monkeypatch: pytest.MonkeyPatch, method: Any, message: str) -> None:
    """A method that leaves parts, takes others or touches more is an error."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=message):
        compress_(fresh("LlamaForCausalLM"), spec("drop_heads", 0.5))


def only_zeros(targets: Targets, step: CompressionStep) -> None:
    """Forget to skip."""
    drop.drop_layers(targets, step)
    targets.skipped.clear()


def only_skips(targets: Targets, step: CompressionStep) -> None:
    """Skip, and leave the weights."""
    del step
    targets.skipped.add("bert.encoder.layer.1")


def the_first(targets: Targets, step: CompressionStep) -> None:
    """Take the first block whatever the order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drop, "_chosen", lambda *_: [0])
        drop.drop_layers(targets, step)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (only_zeros, r"bert\.encoder\.layer\.1: got blocks of zeros that are not skipped, or the reverse"),
        (only_skips, r"bert\.encoder\.layer\.1: got blocks of zeros that are not skipped, or the reverse"),
        (the_first, r"bert\.encoder\.layer\.0, bert\.encoder\.layer\.1: got blocks dropped out of the order 'deep'"),
        (lambda *_: None, r"bert\.encoder\.layer: got 0 blocks dropped, expected 1\."),
    ],
)
def test_bad_blocks_are_refused(monkeypatch: pytest.MonkeyPatch, method: Any, message: str) -> None:
    """A block without its zeros or without its skip, another one, or none, is an error."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=message):
        compress_(fresh("BertForMaskedLM"), spec("drop_layers", 1, unit="count"))


def test_the_order_of_norms_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By norm the smallest block goes; the check knows it from the weights."""
    model = fresh("BertForMaskedLM")
    (step,) = compress_(model, spec("drop_layers", 1, unit="count", order="norm")).steps
    assert step.achieved == 1
    model.fresh_()
    sizes = [
        sum(model.dense(name).square().sum() for name, p in model.module.named_parameters() if f"layer.{i}." in name and p.ndim > 1)
        for i in range(3)
    ]
    monkeypatch.setattr(drop, "_chosen", lambda *_: [int(np.argmax(sizes))])
    with pytest.raises(CompressionError, match=r"got blocks dropped out of the order 'norm'"):
        compress_(model, spec("drop_layers", 1, unit="count", order="norm"))


@pytest.mark.parametrize(
    ("name", "blocks", "propagate"), [("tiny-encoder", "bert.encoder.layer", "compressed"), ("tiny-decoder", "model.layers", "dense")]
)
def test_calibration_after_dropped_layers(name: str, blocks: str, propagate: str, tmp_path: Path) -> None:
    """What a later step sees is what comes past the dropped block: as on a model built without it, to the last bit."""
    loaded = ModelCache(tmp_path).get(catalog()[name])
    smaller = twin(loaded)
    del smaller.get_submodule(blocks)[0]
    smaller.config.num_hidden_layers = 1
    other = LoadedModel(name="smaller", family=loaded.family, module=smaller, tokenizer=loaded.tokenizer)
    data = (("source", "statements"), ("count", 32), ("length", 32), ("propagate", propagate))
    found = []
    for model, steps, at in ((loaded, spec("drop_layers", 1, unit="count").steps, 1), (other, (), 0)):
        solve = CompressionStep(method="sparsegpt", scope=f"{blocks}.{at}.*", level=0.6, params=data)
        compress_(model, CompressionSpec(steps=(*steps, solve)), Calibrator(cache=tmp_path))
        block = model.module.get_submodule(f"{blocks}.{at}")
        found.append({key: p.detach().clone() for key, p in block.named_parameters()})
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
    assert sum(int((value == 0).sum()) for value in found[0].values()) > 0
    assert torch.equal(logits(loaded.module), logits(other.module))
