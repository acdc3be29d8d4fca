"""What a step gets besides the weights: calibration data, or a checkpoint. All of it is taken before any step: the model is dense then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.compress.checkpoint import Brought, bring
from pytest_kick.compress.inputs import Inputs, calibration_of
from pytest_kick.errors import CompressionError
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from pytest_kick.compress.inputs import Calibrator
    from pytest_kick.models.checkpoint import Trust
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.spec import CompressionSpec

Supply = Inputs | Brought


def supplies(model: LoadedModel, spec: CompressionSpec, calibrator: Calibrator | None, trust: Trust) -> dict[int, Supply]:
    """Return number of a step, from 1 -> what it gets, for those that get anything.

    Args:
        model: dense: it may have to draw its calibration data, and a checkpoint is compared with it.
        spec: the steps.
        calibrator: gives calibrated steps their data.
        trust: what a checkpoint may be.

    Raises:
        CompressionError: a calibrated step, and no calibrator.
        CalibrationError: there are no data.
        ModelError: a checkpoint that is none of this model.
    """
    found: dict[int, Supply] = {}
    after: list[str] = []
    for number, step in enumerate(spec.steps, 1):
        info, brought = METHODS.get(step.method, step.id), ""
        if info.calibrated:
            if calibrator is None:
                msg = f"{step.id}: calibration: got no calibrator, expected one for a calibrated method. Give compress_() one."
                raise CompressionError(msg)
            calibration = calibration_of(step)
            data = calibrator.data(model, calibration)
            found[number] = Inputs(model=model, data=data, propagate=calibration.propagate, calibrator=calibrator, after="+".join(after))
        elif info.brings:
            found[number] = bring(model, step, trust)
            brought = f"@{found[number].recorded['checkpoint']}"
        after.append(f"{step.id}{brought}")  # passes are kept by what stood before them, and one name may hold other weights next time
    return found
