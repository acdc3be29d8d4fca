"""Choose how to run a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.probes.rows import MaskForward, RowForward, SpanForward
from pytest_kick.probes.tree import TreeForward, takes_trees

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.forward import Forward
    from pytest_kick.probes.head import ScoredHead
    from pytest_kick.probes.prepare import Prepared


def forward_for(model: LoadedModel, head: ScoredHead, prepared: Prepared) -> Forward:
    """Return what runs a model of its family and architecture."""
    if model.family == "encoder":
        return MaskForward(model, head, prepared)
    if model.family == "encoder-decoder":
        return SpanForward(model, head, prepared)
    return (TreeForward if takes_trees(model, prepared) else RowForward)(model, head, prepared)
