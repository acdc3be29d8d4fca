"""Remember how the modules of a model hang together, and put that back: attributes, submodules, parameters, buffers, hooks."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


_NAMED = {"_parameters", "_buffers", "_modules"}
"""Dictionaries of a module whose keys are names of its own."""


class Snapshot:
    """Hold the structure of a module tree, without its values.

    What libraries do to a module to compress it shows in three places: its class (parametrizations), its attributes (packed
    weights, a `weight` that shadows the parameter, a replaced `forward`), and the dictionaries among those attributes that hold
    parameters, buffers, submodules and hooks. All three are remembered by identity. Putting them back takes milliseconds, keeps
    ties (the same Parameter objects hang where they hung), and needs no knowledge of the library.
    """

    def __init__(self, root: nn.Module) -> None:
        """Remember `root` and all modules below it as they are now."""
        self._modules = [(name, module, type(module), _remember(module.__dict__)) for name, module in root.named_modules()]

    def changed(self) -> list[str]:
        """Return what is no longer as it was, such as `layers.0.up.bias` or `layers.0.up.__class__`; values in place are not looked at.

        What a `functools.cached_property` leaves in its module is none: looking at one is no change.
        """
        found = []
        for name, module, kind, attributes in self._modules:
            keys = ["__class__"] if module.__class__ is not kind else []
            for key in dict.fromkeys([*attributes, *module.__dict__]):
                if key not in attributes:
                    keys += [key] if not isinstance(getattr(kind, key, None), cached_property) else []
                elif key not in module.__dict__ or module.__dict__[key] is not attributes[key][0]:
                    keys.append(key)
                elif (content := attributes[key][1]) is not None and not _same(module.__dict__[key], content):
                    keys += _unlike(module.__dict__[key], content) if key in _NAMED else [key]
            found += [f"{name}.{key}" if name else key for key in keys]
        return found

    def restore(self) -> None:
        """Put every remembered module back into its remembered state; modules that were added are dropped with it."""
        for _, module, kind, attributes in self._modules:
            if module.__class__ is not kind:
                module.__class__ = kind
            _restore(module.__dict__, attributes)


def _remember(attributes: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (value, value.copy() if isinstance(value, (dict, set)) else None) for key, value in attributes.items()}


def _restore(current: dict[str, Any], remembered: dict[str, tuple[Any, Any]]) -> None:
    for key in current.keys() - remembered.keys():
        del current[key]
    for key, (value, content) in remembered.items():
        if key not in current or current[key] is not value:
            current[key] = value
        if content is not None and not _same(value, content):
            value.clear()
            value.update(content)


def _same(left: dict[Any, Any] | set[Any], right: dict[Any, Any] | set[Any]) -> bool:
    if isinstance(left, set) or isinstance(right, set):
        return left == right
    # By identity: comparing tensors by value would be slow, and ambiguous. In order: hooks run in it.
    return list(left) == list(right) and all(a is b for a, b in zip(left.values(), right.values(), strict=True))


def _unlike(current: dict[str, Any], content: dict[str, Any]) -> list[str]:
    """Return the names that were added, replaced or removed; those of a dictionary that is only in another order, all."""
    names = [name for name in {**content, **current} if name not in current or name not in content or current[name] is not content[name]]
    return names or list(current)
