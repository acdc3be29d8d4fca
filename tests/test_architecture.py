"""The rooms of the package: who may import whom, and how large a room may be.

A module imports only from a lower layer, or inside its own subpackage. Imports under `TYPE_CHECKING` never run: they are exempt
from the rules on torch and pytest, and from the rule on cycles; from the layers they are exempt only where `TYPED_UPWARDS` says so.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_kick"

LAYERS = (
    {"", "errors"},
    {"infos", "methods", "probe_infos", "registry", "registration", "probing", "signatures", "stats", "instruments", "jsonl", "identity"},
    {"probe_spec"},
    {
        "spec",
        "references",
        "parameters",
        "asking",
        "grid",
        "budget",
        "series",
        "together",
        "suite",
        "catalog",
        "facts",
        "examples",
        "result",
        "means",
        "noise",
        "extras",
        "data_sets",
    },
    {"baseline", "verdict", "claims"},
    {"models"},  # layer 4: the rooms below stand on the loaded model
    {"calibration"},
    {"compress", "probes"},
    {"runner"},
    {
        "options",
        "config",
        "beside",
        "newcomers",
        "selection",
        "journal",
        "outcome",
        "recording",
        "freshness",
        "counting",
        "session",
        "report",
        "gate",
        "terminal",
        "hookspecs",
        "hooking",
        "findings",
        "plan",
        "scaffold",
        "scheduling",
    },
    {"plugin", "cli"},
)
LAYER_OF = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
HEAVY = {"torch", "transformers", "torchao", "lm_eval", "safetensors", "gguf", "accelerate", "huggingface_hub"}
MAY_BE_HEAVY = {"models", "calibration", "compress", "probes", "runner"}
TESTING = {"pytest", "_pytest", "xdist", "pluggy"}
MAY_TEST = LAYERS[-2] | LAYERS[-1]
APART = {"compress", "probes"}

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
TYPED_UPWARDS = {
    ("pytest_kick", f"pytest_kick.{name}"): "exported lazily, so that importing the package imports nothing"
    for name in ("registration", "probing")
}
"""Exceptions, each with its reason; one that is no longer needed fails."""

# The package's name alone gives `__version__`.
VERSION = "pytest_kick"


@cache
def modules() -> dict[str, ast.Module]:
    """Return module name -> syntax tree of the whole package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [*path.relative_to(PACKAGE.parent).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def room(module: str) -> str:
    """Return the room of a module: the first name below the package."""
    return [*module.split("."), ""][1]


def is_type_checking(node: ast.AST) -> bool:
    """Return whether a node is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST, *, typing: bool = False, inside: bool = True) -> list[tuple[str, bool]]:
    """Return (imported module, only for types) of all imports of a tree; `inside`: those in functions too."""
    found: list[tuple[str, bool]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, typing) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name if name in modules() else str(node.module), typing) for name in names]
        elif is_type_checking(node):
            assert isinstance(node, ast.If)
            found += imports(ast.Module(body=node.body, type_ignores=[]), typing=True, inside=inside)
            found += imports(ast.Module(body=node.orelse, type_ignores=[]), typing=typing, inside=inside)
        elif inside or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found += imports(node, typing=typing, inside=inside)
    return found


def functions(tree: ast.AST, prefix: str = "") -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return (qualified name, node) of all functions and methods."""
    found = []
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}"
            if not isinstance(node, ast.ClassDef):
                found.append((name, node))
        found += functions(node, name)
    return found


def n_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    documented = ast.get_docstring(node) is not None
    docstring = (node.body[0].end_lineno or 0) - node.body[0].lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def upward(trees: dict[str, ast.Module]) -> set[tuple[str, str, bool]]:
    """Return (module, what it imports, only for types) of all imports that do not go downward."""
    wrong = set()
    for name, tree in trees.items():
        for target, typing in imports(tree):
            if target.split(".")[0] != VERSION or room(target) == room(name):
                continue
            if LAYER_OF[room(target)] >= LAYER_OF[room(name)]:
                wrong.add((name, target, typing))
    return wrong


def test_every_room_has_a_layer() -> None:
    """Every module stands in the table of layers, and the table names no room that is gone."""
    rooms = {room(name) for name in modules()}
    assert rooms <= set(LAYER_OF)
    assert set(LAYER_OF) - rooms <= {"findings"}


def peers(name: str, target: str) -> bool:
    """Return whether both modules are of one layer whose rooms may know each other: the test on cycles keeps their order."""
    return LAYER_OF[room(name)] == LAYER_OF[room(target)] and room(name) not in APART


def test_imports_go_downward() -> None:
    """A module imports from lower layers, its own subpackage, or (but for compress and probes) its own layer."""
    wrong = {(name, target) for name, target, typing in upward(modules()) if not typing and not peers(name, target)}
    assert wrong == set()


def test_types_are_imported_downward_too() -> None:
    """An import for types goes downward too, but for those with a reason."""
    wrong = {(name, target) for name, target, typing in upward(modules()) if typing and not peers(name, target)}
    assert wrong == set(TYPED_UPWARDS)


def test_no_cycles() -> None:
    """No module imports itself by way of others, at any level but for types."""
    graph = {name: {target for target, typing in imports(tree) if not typing and target in modules()} for name, tree in modules().items()}

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [*graph[start]]
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo += graph[here]
        return seen

    # a package's own `__init__` collects its modules, which is no cycle unless one of them imports from it
    assert {name for name in graph if name in reach(name)} == set()


@pytest.mark.parametrize(("packages", "rooms"), [(HEAVY, MAY_BE_HEAVY), (TESTING, MAY_TEST)], ids=["torch", "pytest"])
def test_who_may_import_what(packages: set[str], rooms: set[str]) -> None:
    """Only layers 4 and 5 import torch and what brings it, only layers 6 and 7 pytest and xdist; at no level, functions included."""
    wrong = {
        (name, target)
        for name, tree in modules().items()
        for target, typing in imports(tree)
        if not typing and target.split(".")[0] in packages and room(name) not in rooms
    }
    assert wrong == set()


def test_torch_is_not_imported_by_import() -> None:
    """No module of a light layer imports one of layers 4 and 5 when it is itself imported: only in a function, when needed."""
    wrong = {
        (name, target)
        for name, tree in modules().items()
        for target, typing in imports(tree, inside=False)
        if not typing and target.startswith(VERSION) and room(target) in MAY_BE_HEAVY and room(name) not in MAY_BE_HEAVY
    }
    assert wrong == set()


def test_modules_are_small() -> None:
    """A module has at most 300 lines, a function at most 40, but for those with a reason; nothing is called utils or helpers."""
    long = {
        name
        for name in modules()
        for path in [PACKAGE.parent.joinpath(*name.split("."))]
        if len(
            (path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py").read_text(encoding="utf-8").splitlines()
        )
        > MAX_MODULE_LINES
    }
    assert long == set(LONG_MODULES)
    assert not {"utils", "util", "helpers", "common", "misc"} & {name.rpartition(".")[2] for name in modules()}


def test_functions_are_short() -> None:
    """A function has at most 40 lines beside its docstring, but for those with a reason."""
    long = {
        f"{name}{function}" for name, tree in modules().items() for function, node in functions(tree) if n_lines(node) > MAX_FUNCTION_LINES
    }
    assert long == set(LONG_FUNCTIONS)


def test_what_is_public_is_documented() -> None:
    """Every module, and every public class, function and method, has a docstring whose first line is a sentence."""
    bare = set()
    for name, tree in modules().items():
        nodes: list[tuple[str, Documented]] = [(name, tree), *((f"{name}{where}", node) for where, node in functions(tree))]
        nodes += [(f"{name}.{node.name}", node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for where, node in nodes:
            nested = "<locals>" in where or any(part.startswith("_") and not part.startswith("__") for part in where.split("."))
            text = ast.get_docstring(node)
            first = (text or "").partition("\n")[0].rstrip()
            if not nested and not is_local(tree, node) and not first.endswith((".", ":", "?", "...")) and first[-1:] != "`":
                bare.add(where)
    assert bare == set()


def is_local(tree: ast.AST, node: ast.AST) -> bool:
    """Return whether a function or class stands inside a function: nobody can call it from elsewhere."""
    return any(node is not outer and any(inner is node for inner in ast.walk(outer)) for _, outer in functions(tree))


def test_no_relative_or_star_imports() -> None:
    """Imports are absolute and name what they import."""
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                assert "*" not in [alias.name for alias in node.names]


def test_the_rules_can_fail() -> None:
    """The checks see what they look for: an import in a function, one for types, one upward, and a long way round."""
    tree = ast.parse(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pytest\ndef f():\n    import torch\n"
        "    from pytest_kick import runner\n"
    )
    found = imports(tree)
    assert ("pytest", True) in found
    assert ("torch", False) in found
    assert ("pytest_kick.runner", False) in found
    assert ("torch", False) not in imports(tree, inside=False)
    assert upward({"pytest_kick.stats.counts": tree}) == {("pytest_kick.stats.counts", "pytest_kick.runner", False)}
