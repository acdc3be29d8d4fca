from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_models import (
    KINDS,
    OTHERS,
    Recorder,
    blocks_in_order,
    change_,
    expected_by_hand,
    inputs_by_hand,
    make_module,
    make_samples,
    matrices_of,
)
from torch import nn

from pytest_kick.calibration import Sample, make_batches, run_compressed, run_dense
from pytest_kick.calibration import capture as capture_module
from pytest_kick.calibration.order import Order, Stage, block_of, observe
from pytest_kick.calibration.replay import Replay
from pytest_kick.errors import CalibrationError
from pytest_kick.models.matrices import Matrix, find_matrices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Batch = Mapping[str, torch.Tensor]

CALIBRATED = [*KINDS, "albert"]


def batches_of(kind: str) -> tuple[dict[str, torch.Tensor], ...]:
    """Return a few small batches, of two lengths."""
    return make_batches(make_samples(kind), 30)


def compressed(module: nn.Module, batches: Sequence[Batch], matrices: tuple[Matrix, ...], *, change: bool) -> Recorder:
    """Return what each matrix was given by `run_compressed`, with weights that change or do not."""
    seen = Recorder()

    def solve(group: tuple[Matrix, ...], keys: Mapping[str, str]) -> None:
        seen.keys.update(keys)
        if change:
            change_(module, group)

    run_compressed(module, batches, matrices, seen.add, solve)
    return seen


@pytest.mark.parametrize("kind", CALIBRATED)
def test_dense_norms_are_those_of_a_plain_pass(kind: str) -> None:
    """One pass gives every matrix the inputs of the model's own forward: norms of each column, by NumPy from hand-made hooks."""
    module, batches = make_module(kind), batches_of(kind)
    matrices = matrices_of(module)
    plain = {name: np.sqrt(np.sum(np.square(x.numpy().astype(np.float64)), axis=0)) for name, x in inputs_by_hand(module, batches).items()}
    seen = Recorder()
    seen.keys = run_dense(module, batches, matrices, seen.add)
    assert set(seen.keys) == {matrix.name for matrix in matrices}
    for matrix in matrices:
        norms = np.linalg.norm(seen.of(matrix).numpy().astype(np.float64), axis=0)
        np.testing.assert_allclose(norms, plain[matrix.module], rtol=1e-12)


@pytest.mark.parametrize("kind", CALIBRATED)
def test_solving_nothing_is_the_plain_forward(kind: str) -> None:
    """Block by block with unchanged weights, every input down to the vocabulary layer's is bit for bit the plain pass's."""
    module, batches = make_module(kind), batches_of(kind)
    matrices = matrices_of(module)
    plain = inputs_by_hand(module, batches)
    seen = compressed(module, batches, matrices, change=False)
    assert {matrix.name for matrix in matrices if not torch.equal(seen.of(matrix), plain[matrix.module])} == set()
    order = observe(module, batches[0])
    assert Replay(module, order.calls, batches).is_chain()


@pytest.mark.parametrize("kind", [*CALIBRATED, "mixtral"])
@pytest.mark.parametrize("roles", [["attention", "ffn", "other", "head"], ["ffn"]], ids=["all", "ffn"])
def test_block_by_block_is_one_pass(kind: str, roles: list[str]) -> None:
    """Asked to say when a block is done, the dense pass hands on the same inputs under the same keys, bit for bit and in order.

    It says of each key once that it is done, block by block, and hands nothing on under it afterwards.
    """
    module, batches = make_module(kind), batches_of(kind)
    matrices = matrices_of(module, roles)
    whole, parts = Recorder(), Recorder()
    whole.keys = run_dense(module, batches, matrices, whole.add)
    done: list[tuple[str, ...]] = []

    def add(key: str, x: torch.Tensor) -> None:
        assert not any(key in keys for keys in done)
        parts.add(key, x)

    assert run_dense(module, batches, matrices, add, finish=done.append) == whole.keys
    assert {key for key, rows in whole.rows.items() if not torch.equal(torch.cat(rows), torch.cat(parts.rows[key]))} == set()
    assert sorted(key for keys in done for key in keys) == sorted(whole.rows)
    assert all(len({block_of(key) for key in keys}) == 1 for keys in done)
    assert len(done) == len({block_of(key) or key for key in whole.rows})


@pytest.mark.parametrize("kind", KINDS)
def test_later_blocks_see_compressed_ones(kind: str) -> None:
    """With changed weights, each matrix sees what a plain pass of a model gives it whose earlier blocks were changed by hand."""
    batches = batches_of(kind)
    check_against_hand(kind, batches, expected_by_hand(kind, batches))


def check_against_hand(kind: str, batches: Sequence[Batch], expected: Mapping[str, torch.Tensor]) -> None:
    """Compare all inputs of a changing run, bit for bit."""
    module = make_module(kind)
    matrices = matrices_of(module)
    seen = compressed(module, batches, matrices, change=True)
    assert {matrix.name for matrix in matrices if not torch.equal(seen.of(matrix), expected[matrix.name])} == set()


def swap_stages(order: Order, matrices: tuple[Matrix, ...]) -> tuple[Stage, ...]:
    """Solve the decoder's blocks before the encoder's: the planted order."""
    stages = PLAIN_STAGES(order, matrices)
    return (*(s for s in stages if "decoder" in s.matrices[0].module), *(s for s in stages if "decoder" not in s.matrices[0].module))


PLAIN_STAGES, PLAIN_RUN = Order.stages, Replay.run


def run_with_stale_states(replay: Replay, number: int, **options: Any) -> Any:
    """Keep the outputs of the encoder as the first pass found them: what the decoder sees is stale then."""
    held = dict(replay._held[number])
    result = PLAIN_RUN(replay, number, **options)
    replay._held[number].update({chain: output for chain, output in held.items() if "encoder" in chain})
    return result


@pytest.mark.parametrize(
    ("owner", "name", "bug"),
    [(Order, "stages", swap_stages), (Replay, "run", run_with_stale_states)],
    ids=["wrong block order", "stale encoder states"],
)
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_the_comparison_sees_planted_bugs(monkeypatch: pytest.MonkeyPatch, kind: str, owner: type, name: str, bug: object) -> None:
    """The comparison by hand turns red where blocks are solved in another order, and where the decoder sees the dense encoder."""
    batches = batches_of(kind)
    expected = expected_by_hand(kind, batches)
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises((AssertionError, CalibrationError, KeyError)):
        check_against_hand(kind, batches, expected)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_scope_of_some_matrices(kind: str) -> None:
    """With only some matrices asked for, blocks without one pass on what compressed ones gave them, and nothing else is hooked."""
    module, batches = make_module(kind), batches_of(kind)
    chosen = tuple(m for m in matrices_of(module, ["ffn"]) if ".1." in m.module)
    expected = expected_of(kind, batches, chosen)
    hooked: set[str] = set()
    seen = Recorder()

    def add(key: str, x: torch.Tensor) -> None:
        hooked.update(name for name, child in module.named_modules() if child._forward_pre_hooks)
        seen.add(key, x)

    def solve(group: tuple[Matrix, ...], keys: Mapping[str, str]) -> None:
        seen.keys.update(keys)
        change_(module, group)

    run_compressed(module, batches, chosen, add, solve)
    assert all(torch.equal(seen.of(matrix), expected[matrix.name]) for matrix in chosen)
    assert hooked <= {matrix.module for matrix in chosen}


def expected_of(kind: str, batches: Sequence[Batch], chosen: Sequence[Matrix]) -> dict[str, torch.Tensor]:
    """Return the inputs of chosen matrices with the chosen ones of earlier blocks changed, by hand."""
    found = {}
    for block in blocks_in_order(make_module(kind)):
        module = make_module(kind)
        names = blocks_in_order(module)
        change_(module, [m for m in chosen if names.index(block_of(m.module)) < names.index(block)])
        plain = inputs_by_hand(module, batches)
        found.update({m.name: plain[m.module] for m in chosen if block_of(m.module) == block})
    return found


def test_a_block_that_runs_often_pools_its_inputs() -> None:
    """ALBERT's one block runs three times: its matrices get the tokens of all three runs, and later runs are dense ones."""
    module, batches = make_module("albert"), batches_of("albert")
    matrices = matrices_of(module, ["ffn"])
    n_tokens = sum(batch["input_ids"].numel() for batch in batches)
    plain = inputs_by_hand(module, batches)
    seen = compressed(module, batches, matrices, change=True)
    for matrix in matrices:
        assert seen.of(matrix).shape[0] == 3 * n_tokens
        assert torch.equal(seen.of(matrix), plain[matrix.module])


def test_shared_inputs_are_handed_on_once() -> None:
    """The queries, keys and values of a block share a key, gate and up another; the output layers have keys of their own."""
    module, batches = make_module("llama"), batches_of("llama")
    seen = Recorder()
    keys = run_dense(module, batches, matrices_of(module, ["attention", "ffn"]), seen.add)
    first = {name.rpartition(".")[2]: key.rpartition(".")[2] for name, key in keys.items() if ".0." in name}
    assert first["q_proj"] == first["k_proj"] == first["v_proj"]
    assert first["gate_proj"] == first["up_proj"]
    assert len(set(first.values())) == 4
    assert len(seen.rows) == 4 * 3


def test_keys_do_not_depend_on_the_scope() -> None:
    """A matrix has the same key whichever others are asked for, so that what is on disk serves overlapping scopes."""
    module, batches = make_module("t5"), batches_of("t5")
    order = observe(module, batches[0])
    whole = order.keys(matrices_of(module))
    for matrix in matrices_of(module):
        assert order.keys((matrix,)) == {matrix.module: whole[matrix.module]}
    cross = {whole[m.module] for m in matrices_of(module) if m.module.endswith(("EncDecAttention.k", "EncDecAttention.v"))}
    assert len(cross) == 1
    by_block = order.keys(matrices_of(module), by_block=True)
    assert all(block_of(name) == block_of(key) for name, key in by_block.items())


@pytest.mark.parametrize("propagate", ["dense", "compressed"])
def test_experts_get_their_own_tokens(propagate: str) -> None:
    """Each expert's matrices get the tokens routed to it, twice as many in all as there are; by NumPy from the router's choices."""
    module, batches = make_module("mixtral"), batches_of("mixtral")
    matrices = matrices_of(module, ["ffn"])
    routed: list[tuple[np.ndarray, np.ndarray]] = []
    experts = module.model.layers[1].mlp.experts
    handle = experts.register_forward_pre_hook(lambda _m, args: routed.append((args[0].numpy().copy(), args[1].numpy().copy())))
    for batch in batches:
        module(**batch)
    handle.remove()
    if propagate == "dense":
        seen = Recorder()
        seen.keys = run_dense(module, batches, matrices, seen.add)
    else:
        seen = compressed(module, batches, matrices, change=False)
    x, choice = np.concatenate([r[0] for r in routed]), np.concatenate([r[1] for r in routed])
    by_name = {matrix.name: matrix for matrix in matrices}
    rows = 0
    for expert in range(3):
        own = x[np.any(choice == expert, axis=1)]
        gate_up = experts.gate_up_proj[expert].numpy().astype(np.float64)
        gate, up = np.split(own @ gate_up.T, 2, axis=1)
        name = "model.layers.1.mlp.experts"
        np.testing.assert_array_equal(seen.of(by_name[f"{name}.gate_up_proj.{expert}.up"]).numpy(), own)
        np.testing.assert_allclose(
            seen.of(by_name[f"{name}.down_proj.{expert}"]).numpy(), gate / (1 + np.exp(-gate)) * up, rtol=1e-4, atol=1e-7
        )
        rows += len(own)
    assert rows == 2 * sum(batch["input_ids"].numel() for batch in batches)


class Skipping(nn.Module):
    """A model whose last block looks back at the output of its first, or whose blocks write into their input: no chain."""

    def __init__(self, *, in_place: bool) -> None:
        """Make four blocks."""
        super().__init__()
        torch.manual_seed(0)
        self.in_place = in_place
        self.embed = nn.Embedding(60, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4))
        self.head = nn.Linear(8, 60)

    def forward(self, input_ids: torch.Tensor, *, use_cache: bool = False) -> SimpleNamespace:
        """Add the first block's output to the last one's input."""
        del use_cache
        x = first = self.layers[0](self.embed(input_ids))
        for layer in self.layers[1:3]:
            x = layer(x.mul_(1.5) if self.in_place else x)
        return SimpleNamespace(logits=self.head(self.layers[3](x if self.in_place else x + first)))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_model_that_is_no_chain_is_run_whole(*, in_place: bool) -> None:
    """Where blocks look back past their neighbours, or write over inputs, every matrix sees what a plain pass gives it all the same."""
    module = Skipping(in_place=in_place).requires_grad_(requires_grad=False)
    batches = make_batches([Sample(input_ids=tuple(range(5, 15)))] * 2)
    order = observe(module, batches[0])
    assert order.calls == [f"layers.{number}" for number in range(4)]
    assert not Replay(module, order.calls, batches).is_chain()
    matrices = tuple(m for m in find_matrices(module) if m.module.endswith(".0"))
    plain, dense, done = inputs_by_hand(module, batches), Recorder(), []
    dense.keys = run_dense(module, batches, matrices, dense.add, finish=done.append)
    assert all(torch.equal(dense.of(matrix), plain[matrix.module]) for matrix in matrices)
    assert done == [tuple(dense.rows)]
    seen = compressed(module, batches, matrices, change=True)
    for number, matrix in enumerate(matrices):
        by_hand = Skipping(in_place=in_place).requires_grad_(requires_grad=False)
        change_(by_hand, matrices[:number])
        assert torch.equal(seen.of(matrix), inputs_by_hand(by_hand, batches)[matrix.module])


def test_nothing_is_left_behind() -> None:
    """Hooks and replaced forwards are gone after a run, and after one that failed in the middle."""
    module, batches = make_module("bert"), batches_of("bert")

    def fail(_matrices: tuple[Matrix, ...], _keys: Mapping[str, str]) -> None:
        message = "no"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="no"):
        run_compressed(module, batches, matrices_of(module), lambda _key, _x: None, fail)
    compressed(module, batches, matrices_of(module), change=False)
    assert not [name for name, child in module.named_modules() if child._forward_pre_hooks or "forward" in child.__dict__]


@pytest.mark.parametrize("role", ["norm", "embedding", "router"])
def test_matrices_without_visible_inputs_are_refused(role: str) -> None:
    """A matrix that no Linear, Conv1D or known experts multiply is refused in one line that names it."""
    module, batches = make_module("mixtral"), batches_of("mixtral")
    matrices = matrices_of(module, [role])
    with pytest.raises(CalibrationError, match=matrices[0].name.replace(".", r"\.")) as caught:
        run_dense(module, batches, matrices, lambda _key, _x: None)
    assert "\n" not in str(caught.value)


def test_a_matrix_that_no_sequence_passes_is_refused() -> None:
    """A module that the forward pass never calls is an error that names it, not a matrix without inputs."""
    module, batches = make_module("bert"), batches_of("bert")
    module.bert.encoder.layer[0].spare = nn.Linear(4, 4)
    spare = Matrix(
        name="spare", module="bert.encoder.layer.0.spare", parameter="bert.encoder.layer.0.spare.weight", role="other", shape=(4, 4)
    )
    with pytest.raises(CalibrationError, match=r"layer\.0\.spare"):
        run_dense(module, batches, (spare,), lambda _key, _x: None)


def norms_alone(kind: str, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Return the norms of each layer's inputs with every sequence in a pass of its own."""
    module = make_module(kind)
    one = [{name: torch.tensor([getattr(s, name)]) for name in ("input_ids", "decoder_input_ids") if getattr(s, name)} for s in samples]
    return {name: np.linalg.norm(x.numpy().astype(np.float64), axis=0) for name, x in inputs_by_hand(module, one).items()}


def check_norms(kind: str, samples: Sequence[Sample], batches: Sequence[Batch]) -> None:
    """Compare the norms over batches with those of the sequences alone."""
    module = make_module(kind)
    seen = Recorder()
    seen.keys = run_dense(module, batches, matrices_of(module, ["attention", "ffn"]), seen.add)
    alone = norms_alone(kind, samples)
    for matrix in matrices_of(module, ["attention", "ffn"]):
        np.testing.assert_allclose(np.linalg.norm(seen.of(matrix).numpy().astype(np.float64), axis=0), alone[matrix.module], rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "t5", "llama"])
def test_padding_never_enters(kind: str) -> None:
    """Sequences of many lengths give the norms that each gives alone; the same sequences padded to the longest do not."""
    samples = make_samples(kind, (12, 7, 12, 9, 5, 7))
    check_norms(kind, samples, make_batches(samples))
    padded = [
        Sample(
            input_ids=(*s.input_ids, *[3] * (12 - len(s.input_ids))),
            decoder_input_ids=(*s.decoder_input_ids, *[3] * (9 - len(s.decoder_input_ids))) if s.decoder_input_ids else (),
        )
        for s in samples
    ]
    with pytest.raises(AssertionError):
        check_norms(kind, samples, make_batches(padded))


def test_placed_gives_the_very_tensors_back() -> None:
    """On another device parameters and buffers are elsewhere for the time of a pass, and the same memory afterwards."""
    module = make_module("llama")
    before = [(p, p.data_ptr()) for p in (*module.parameters(), *module.buffers())]
    with capture_module.placed(module, "meta"):
        assert {p.device.type for p in (*module.parameters(), *module.buffers())} == {"meta"}
    assert [(p, p.data_ptr()) for p in (*module.parameters(), *module.buffers())] == before


def test_nothing_to_run_is_an_error() -> None:
    """No batches, or no matrices, is an error and not an empty result."""
    module = make_module("bert")
    with pytest.raises(CalibrationError, match="0 batches"):
        run_dense(module, (), matrices_of(module), lambda _key, _x: None)


def test_the_docs_name_what_is_checked() -> None:
    """docs/calibration.md says of these architectures, and of no other, that they were compared with plain passes."""
    text = (Path(__file__).parents[3] / "docs" / "calibration.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("Checked bit for bit")
    assert set(re.findall(r"`(\w+)`", rest.partition("each expert's")[0])) == set(KINDS) | set(OTHERS)
