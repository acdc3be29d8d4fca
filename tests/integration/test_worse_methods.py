from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from workspace import last_line

from pytest_kick.compress import prune
from pytest_kick.compress.rank import exact_count
from pytest_kick.compress.solvers import masks, sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace import Workspace

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

    Method = Callable[[Targets, CompressionStep], None]


def wrong_tail(targets: Targets, step: CompressionStep) -> None:
    """Zero the weights of largest magnitude, as many as asked."""
    flats = [item.flat() for item in targets.items]
    joined = np.concatenate(flats)
    order = np.argsort(-np.abs(joined), kind="stable")[: prune.asked_zeros(targets, step)]
    joined[order] = 0.0
    for flat, part in zip(flats, np.split(joined, np.cumsum([f.size for f in flats])[:-1]), strict=True):
        flat[:] = part


def largest(targets: Targets, step: CompressionStep) -> None:
    """Zero the largest weights of each matrix, as many as asked."""
    for item in targets.items:
        flat = item.flat()
        flat[np.argsort(-np.abs(flat), kind="stable")[: exact_count(step.level, flat.size)]] = 0.0


def skipping_a_layer(targets: Targets, step: CompressionStep) -> None:
    """Leave the first matrix as it is."""
    for item in targets.items[1:]:
        prune.zero_smallest_([item.flat()], exact_count(step.level, item.matrix.n))


def too_little(targets: Targets, step: CompressionStep) -> None:
    """Zero one weight fewer than asked."""
    prune.zero_smallest_([item.flat() for item in targets.items], prune.asked_zeros(targets, step) - 1)


def nothing(targets: Targets, step: CompressionStep) -> None:
    """Touch nothing."""


def scaling(targets: Targets, step: CompressionStep) -> None:
    """Zero the right weights, and change the others."""
    prune.zero_smallest_([item.flat() for item in targets.items], prune.asked_zeros(targets, step))
    for item in targets.items:
        item.flat()[:] *= np.float32(1.5)


def poisoning(targets: Targets, step: CompressionStep) -> None:
    """Zero the right weights, and make another one NaN."""
    prune.zero_smallest_([item.flat() for item in targets.items], prune.asked_zeros(targets, step))
    flat = targets.items[0].flat()
    flat[int(np.argmax(np.abs(flat)))] = np.nan


def with_a_random_cell(workspace: Workspace) -> str:
    """Add a cell of the method whose choice no check can know, record it, and return its test item."""
    workspace.suite('[[compressions]]\nmethod = "random_unstructured"\nscope = "overall"\nsparsity = 0.1\n')
    node = workspace.node("random_unstructured--overall--s0.1")
    workspace.run(node, "--kick-update", at="").assert_outcomes(passed=1)
    return node


def test_a_worse_method_is_regressed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that removes the right number of worse weights is REGRESSED against its stored run, and prints how to accept it."""
    node = with_a_random_cell(workspace)
    monkeypatch.setattr(prune, "random_unstructured", largest)
    result = workspace.run(node, at="")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "kick: REGRESSED: tiny-decoder | random_unstructured overall s0.1 *",
            "regression *: REGRESSED",
            f'accept * pytest "{node[:20]}*--kick-update',
        ]
    )
    assert last_line(result) == "kick: 1 cell, 0 pass, 1 fail, 0 inconclusive, 0 error"


def test_a_worse_run_is_accepted_by_recording(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--kick-update` stores the worse run; a better method is IMPROVED against it and passes."""
    node = with_a_random_cell(workspace)
    with monkeypatch.context() as patch:
        patch.setattr(prune, "random_unstructured", largest)
        workspace.run(node, "--kick-update", at="").assert_outcomes(passed=1)
        workspace.run(node, at="").assert_outcomes(passed=1)
    document_of = workspace.run(node, "--kick-json", "run.json", at="")
    document_of.assert_outcomes(passed=1)
    assert workspace.read("run.json")["cells"][0]["verdict"]["regressions"][0]["word"] == "IMPROVED"


@pytest.mark.parametrize("budget", ["", "[[budgets]]\nretention = 0.99\n"], ids=["no budget", "forgot"])
def test_recording_shows_what_it_accepts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, budget: str) -> None:
    """A run that replaces a better stored run says REGRESSED with counts, in table and last line; only a budget makes it red."""
    node = with_a_random_cell(workspace)
    path = workspace.path / "suites" / "mini.toml"
    path.write_text(path.read_text(encoding="utf-8") + budget, encoding="utf-8")
    monkeypatch.setattr(prune, "random_unstructured", largest)
    workspace.narrow(160, monkeypatch)
    result = workspace.run(node, "--kick-update", "--kick-json", "run.json", at="")
    result.assert_outcomes(**({"failed": 1} if budget else {"passed": 1}))
    result.stdout.re_match_lines([r"  random_unstructured +overall +s0\.1 .* REGRESSED +regressed -\d+\+\d+"])
    name = r"mini--tiny-decoder--random_unstructured--overall--s0\.1"
    result.stdout.re_match_lines([rf"kick: accepted: {name}: REGRESSED: p1 \S+ -> \S+, -\d+\+\d+(, \d+ answered otherwise)?"])
    assert last_line(result).endswith("1 recorded, 1 kept, 1 regressed accepted")
    assert workspace.read("run.json")["cells"][0]["outcome"] == ("fail" if budget else "pass")
    if budget:
        result.stdout.fnmatch_lines(["kick: FORGOT: tiny-decoder*", "accept * --kick-update keeps FORGOT red"])
        result.stdout.no_fnmatch_line("accept *pytest *")


@pytest.mark.parametrize("method", [wrong_tail, skipping_a_layer, too_little, nothing, scaling, poisoning])
def test_a_method_that_did_something_else_is_an_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, method: Method) -> None:
    """What was not compressed as asked is never scored: an error of the cell in one line, and the dense cell is green."""
    monkeypatch.setattr(prune, "l1_global", method)
    result = workspace.run("-k", "dense or s0.1")
    result.assert_outcomes(passed=1, errors=2)
    assert last_line(result) == "kick: 3 cells, 1 pass, 0 fail, 0 inconclusive, 2 error"
    result.stdout.re_match_lines([r"l1_global--attention--s0\.1: .*(self_attn|got).*, expected .*\."])


def test_a_method_that_raises_is_an_error_of_its_cell(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception inside a method is one line that names it; the model is loaded anew and the next cells are as before."""
    real = prune.l1_global

    def breaking(targets: Targets, step: CompressionStep) -> None:
        real(targets, step)
        if step.scope == "attention":
            targets.items[0].weight.fill_(7.0)
            raise ZeroDivisionError("by hand")

    monkeypatch.setattr(prune, "l1_global", breaking)
    result = workspace.run()
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["l1_global--attention--s0.1: method: got ZeroDivisionError (by hand), expected *"])
    result.stdout.no_fnmatch_line("by hand")
    full = workspace.run("-k", "attention--s0.1", "--full-trace")
    full.stdout.fnmatch_lines(["*ZeroDivisionError*", "*CompressionError*"])


SOLVED = """
[[compressions]]
method = "sparsegpt"
{level}
source = "statements"
count = 48
length = 32
"""


def with_a_solved_cell(workspace: Workspace, level: str) -> None:
    """Ask the encoder, which pays most for a broken solver, record its dense cell and one of sparsegpt, and see both green."""
    workspace.suite(SOLVED.format(level=level), old="tiny-decoder", new="tiny-encoder")
    workspace.run("-k", "dense or sparsegpt", "--kick-update").assert_outcomes(passed=2)
    workspace.run("-k", "sparsegpt").assert_outcomes(passed=1)


def without_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no column make up for the errors of those before it."""
    real = sweep._fix_all_

    def dropped(free: torch.Tensor, errors: torch.Tensor, spread: torch.Tensor, rule: Any) -> None:
        real(free, errors, torch.zeros_like(spread), rule)

    monkeypatch.setattr(sweep, "_fix_all_", dropped)


def with_the_wrong_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let columns add to the errors before them."""
    real = sweep._fix_all_

    def turned(free: torch.Tensor, errors: torch.Tensor, spread: torch.Tensor, rule: Any) -> None:
        real(free, errors, -spread, rule)

    monkeypatch.setattr(sweep, "_fix_all_", turned)


@pytest.mark.parametrize("plant", [without_update, with_the_wrong_sign])
def test_a_broken_solver_is_regressed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Zeros by count tell nothing of a solver whose survivors make up for nothing: its stored run does, in red."""
    with_a_solved_cell(workspace, "sparsity = 0.6")
    plant(monkeypatch)
    result = workspace.run("-k", "sparsegpt")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["kick: REGRESSED: tiny-encoder | sparsegpt/* overall s0.6 *"])


def test_a_pattern_along_the_outputs_is_an_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transposed N:M has as many zeros as the right one, and is refused on the weights, before anything is asked."""
    with_a_solved_cell(workspace, 'pattern = "2:4"')
    monkeypatch.setattr(
        import_module("pytest_kick.compress.solvers.sparsegpt"),  # the package's own name for it is the function
        "drop_in_groups",
        lambda scores, pattern: masks.drop_in_groups(scores.T.contiguous(), pattern).T.contiguous(),
    )
    result = workspace.run("-k", "sparsegpt")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*sparsegpt*, expected 2 of each 4 kept along the inputs, exactly.*"])
