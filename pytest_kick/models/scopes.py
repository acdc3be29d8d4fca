"""Scopes: which matrices of a model a compression is about (`docs/scopes.md`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kick.errors import ScopeError
from pytest_kick.models.matrices import Matrix, Part, body_size, check_known, find_matrices, generic, layout_of, matches, model_type
from pytest_kick.registry import did_you_mean
from pytest_kick.spec import SCOPES

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Matrix", "Part", "body_size", "find_matrices", "select"]

_BODY = frozenset({"attention", "ffn", "other"})


def select(module: nn.Module, family: str, scope: str, *, bits: bool = False) -> tuple[Matrix, ...]:
    """Return the matrices of a scope, in the order of the model's modules.

    Args:
        module: a transformers model.
        family: `encoder`, `encoder-decoder` or `decoder`.
        scope: a name in `pytest_kick.spec.SCOPES`, or comma-separated globs over names of matrices, modules or parameters.
        bits: whether a quantizer asks: study A's `overall` includes the vocabulary layer for these only.

    Raises:
        ScopeError: the scope is empty, unknown, not defined for the family, or the architecture is not in the table.
    """
    matrices = find_matrices(module)
    if scope not in SCOPES:
        return _by_pattern(matrices, scope)
    if scope == "head":
        chosen = tuple(m for m in matrices if m.role == "head")
    else:
        check_known(module, matrices, scope)
        chosen = _by_name(module, family, matrices, scope, bits=bits)
    if not chosen:
        msg = f"scope {scope!r}: matrices: got none in this {model_type(module)!r}, expected at least one. Choose another scope."
        raise ScopeError(msg)
    return chosen


def _by_name(module: nn.Module, family: str, matrices: tuple[Matrix, ...], scope: str, *, bits: bool) -> tuple[Matrix, ...]:
    if scope in {"encoder_self_attention", "decoder_self_attention", "cross_attention"}:
        return _by_side(module, family, matrices, scope)
    if scope.startswith("a_compat"):
        return _of_study_a(module, matrices, scope, bits=bits)
    if scope == "ffn_like_attention":
        return _ffn_like_attention(matrices)
    roles = _BODY if scope == "overall" else {scope}
    return tuple(m for m in matrices if m.role in roles)


def _by_side(module: nn.Module, family: str, matrices: tuple[Matrix, ...], scope: str) -> tuple[Matrix, ...]:
    if family != "encoder-decoder":
        msg = f"scope {scope!r}: family: got {family!r}, expected 'encoder-decoder'. Use the scope 'attention'."
        raise ScopeError(msg)
    layout = layout_of(module)
    cross = layout.cross if layout else ()
    attention = [m for m in matrices if m.role == "attention"]
    if scope == "cross_attention":
        return tuple(m for m in attention if matches(m.module, cross))
    side = scope.partition("_")[0]
    return tuple(m for m in attention if side in m.module.split(".") and not matches(m.module, cross))


def _of_study_a(module: nn.Module, matrices: tuple[Matrix, ...], scope: str, *, bits: bool) -> tuple[Matrix, ...]:
    layout = layout_of(module)
    if layout is None or not layout.in_study_a:
        msg = (
            f"scope {scope!r}: architecture: got {model_type(module)!r}, expected one that study A's code knows"
            f" (BERT, RoBERTa, ELECTRA, DistilBERT, ALBERT, T5, LLaMA and its like). Use the scope {scope.removeprefix('a_compat_')!r}."
        )
        raise ScopeError(msg)
    if scope == "a_compat_overall":
        return tuple(m for m in matrices if m.role in _BODY or (bits and m.role == "head"))
    layers = [m for m in matrices if m.role in {"attention", "ffn"}]
    in_attention = [matches(m.module, layout.a_attention or layout.attention) for m in layers]
    return tuple(m for m, inside in zip(layers, in_attention, strict=True) if inside == (scope == "a_compat_attention"))


def _ffn_like_attention(matrices: tuple[Matrix, ...]) -> tuple[Matrix, ...]:
    layers: dict[str, list[Matrix]] = {}
    for m in matrices:
        if m.role == "ffn":
            layers.setdefault(_layer(m.module), []).append(m)
    attention = sum(m.n for m in matrices if m.role == "attention")
    ffn = sum(m.n for layer in layers.values() for m in layer)
    count = round(attention * len(layers) / ffn) if ffn else 0
    if not 1 <= count <= len(layers):
        msg = (
            f"scope 'ffn_like_attention': layers: got {ffn} ffn weights in {len(layers)} layers against {attention} attention"
            " weights, expected whole ffn layers that add up to about as many. Use the scope 'ffn' with sparsity_of = 'attention'."
        )
        raise ScopeError(msg)
    spaced = [int((i + 0.5) * len(layers) / count) for i in range(count)]
    chosen = [list(layers.values())[i] for i in spaced]
    return tuple(m for layer in chosen for m in layer)


def _layer(module: str) -> str:
    """Return the part of a module's name up to its layer number: `encoder.block.3` of `encoder.block.3.layer.1.wi`."""
    found = re.match(r"^(.*?\.\d+)(\.|$)", module)
    return found.group(1) if found else module


def _by_pattern(matrices: tuple[Matrix, ...], scope: str) -> tuple[Matrix, ...]:
    patterns = [pattern.strip() for pattern in scope.split(",")]
    hits = {pattern: [m for m in matrices if _is_named(m, pattern)] for pattern in patterns}
    empty = next((pattern for pattern, found in hits.items() if not found), None)
    if empty is not None:
        plain = re.fullmatch(r"\w*", empty)
        known = [m.name for m in matrices if m.role not in {"embedding", "norm", "router"}]
        hint = did_you_mean(empty, SCOPES) if plain else f"Matrices here: {generic(known)}."
        msg = f"scope {scope!r}: pattern: got {empty!r}, which names no matrix of this model; expected a scope or such a pattern. {hint}"
        raise ScopeError(msg)
    named = {m.name for found in hits.values() for m in found}
    return tuple(m for m in matrices if m.name in named)


def _is_named(matrix: Matrix, pattern: str) -> bool:
    names = (matrix.name, matrix.module, matrix.parameter)
    if matrix.role == "embedding" or not any(matches(name, (pattern,)) for name in names):
        return False
    if matrix.role not in {"norm", "router"}:
        return True
    # Never by accident: the pattern has to spell the parameter out, as in `*.input_layernorm.weight`, not `*` or `*.weight`.
    *_, owner, key = ["", *pattern.split(".")]
    return key == matrix.parameter.rpartition(".")[2] and bool(re.search(r"[A-Za-z]", owner)) and matches(matrix.parameter, (pattern,))
