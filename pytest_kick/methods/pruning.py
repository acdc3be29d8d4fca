"""Methods that set weights to zero."""

from __future__ import annotations

from pytest_kick.infos import CALIBRATION, CALIBRATION_CHOICES, CALIBRATION_LEAST, MethodInfo

_OF = ("sparsity_of", "scope")
_OF_CHOICES = ("sparsity_of", ("scope", "model", "attention"))
_DIM_CHOICES = ("dim", ("rows", "columns"))
_PATTERN = ("pattern", "")

PRUNING = (
    MethodInfo(
        name="l1_global",
        level="sparsity",
        target="pytest_kick.compress.prune:l1_global",
        summary="zero the weights of smallest magnitude over the whole scope",
        params=(_OF,),
        choices=(_OF_CHOICES,),
    ),
    MethodInfo(
        name="l1_per_matrix",
        level="sparsity",
        target="pytest_kick.compress.prune:l1_per_matrix",
        summary="zero the weights of smallest magnitude, matrix by matrix",
        params=(_PATTERN,),
    ),
    MethodInfo(
        name="random_unstructured",
        level="sparsity",
        target="pytest_kick.compress.prune:random_unstructured",
        summary="zero random weights, matrix by matrix",
        params=(("seed", 0),),
    ),
    MethodInfo(
        name="ln_structured",
        level="sparsity",
        target="pytest_kick.compress.prune:ln_structured",
        summary="zero the rows or columns of smallest norm, matrix by matrix",
        params=(("n", 1), ("dim", "rows")),
        choices=(("n", (1, 2)), _DIM_CHOICES),
    ),
    MethodInfo(
        name="random_structured",
        level="sparsity",
        target="pytest_kick.compress.prune:random_structured",
        summary="zero random rows or columns, matrix by matrix",
        params=(("dim", "rows"), ("seed", 0)),
        choices=(_DIM_CHOICES,),
    ),
    MethodInfo(
        name="wanda",
        level="sparsity",
        target="pytest_kick.compress.calibrated:wanda",
        summary="zero the weights of smallest magnitude x norm of their input, row by row (calibrated)",
        params=(_PATTERN, *CALIBRATION),
        choices=CALIBRATION_CHOICES,
        least=CALIBRATION_LEAST,
        calibrated=True,
    ),
    MethodInfo(
        name="sparsegpt",
        level="sparsity",
        target="pytest_kick.compress.calibrated:sparsegpt",
        summary="zero the weights that cost least, and let the others make up for them (calibrated)",
        params=(_PATTERN, ("block", 128), ("damping", 0.01), *CALIBRATION),
        choices=CALIBRATION_CHOICES,
        least=(("block", 1), *CALIBRATION_LEAST),
        calibrated=True,
        compensates=True,
    ),
)
