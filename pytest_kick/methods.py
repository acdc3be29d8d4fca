"""The table of built-in compression methods."""

from __future__ import annotations

from pytest_kick.infos import CALIBRATION, CALIBRATION_LEAST, CALIBRATION_SOURCES, MethodInfo

_OF = ("sparsity_of", "scope")
_OF_CHOICES = ("sparsity_of", ("scope", "model", "attention"))
_DIM_CHOICES = ("dim", ("rows", "columns"))
_FLOATS = (("bf16", 16), ("fp16", 16), ("fp8_e4m3", 8), ("fp8_e5m2", 8))
_PATTERN = ("pattern", "")
_CALIBRATION_CHOICES = (("source", CALIBRATION_SOURCES), ("propagate", ("compressed", "dense")))

BUILTIN_METHODS = (
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
        name="dynamic_int8",
        level="bits",
        target="pytest_kick.compress.quantize:dynamic_int8",
        summary="int8 weights per output channel, int8 activations per token (torchao)",
        bits=(8,),
    ),
    MethodInfo(
        name="rtn",
        level="bits",
        target="pytest_kick.compress.weight_only:rtn",
        summary="round weights to the nearest of a grid per group, channel (group 0) or tensor",
        bits=(2, 3, 4, 5, 6, 7, 8),
        params=(("group", 64), ("symmetric", True)),
        words=(("group", ("tensor",)),),
    ),
    MethodInfo(
        name="cast",
        level="bits",
        target="pytest_kick.compress.weight_only:cast",
        summary="round weights to a floating-point format: bf16, fp16, or fp8 with a scale per channel",
        bits=(8, 16),
        params=(("format", "bf16"),),
        choices=(("format", tuple(name for name, _ in _FLOATS)),),
        levels_of=tuple(("format", name, bits) for name, bits in _FLOATS),
    ),
    MethodInfo(
        name="quantize_dynamic",
        level="bits",
        target="pytest_kick.compress.quantize:quantize_dynamic",
        summary="torch's deprecated per-tensor dynamic int8, as study A used it (float32 only)",
        bits=(8,),
        float32_only=True,
        packs=True,
    ),
    MethodInfo(
        name="wanda",
        level="sparsity",
        target="pytest_kick.compress.calibrated:wanda",
        summary="zero the weights of smallest magnitude x norm of their input, row by row (calibrated)",
        params=(_PATTERN, *CALIBRATION),
        choices=_CALIBRATION_CHOICES,
        least=CALIBRATION_LEAST,
        calibrated=True,
    ),
    MethodInfo(
        name="sparsegpt",
        level="sparsity",
        target="pytest_kick.compress.calibrated:sparsegpt",
        summary="zero the weights that cost least, and let the others make up for them (calibrated)",
        params=(_PATTERN, ("block", 128), ("damping", 0.01), *CALIBRATION),
        choices=_CALIBRATION_CHOICES,
        least=(("block", 1), *CALIBRATION_LEAST),
        calibrated=True,
        compensates=True,
    ),
    MethodInfo(
        name="gptq",
        level="bits",
        target="pytest_kick.compress.calibrated:gptq",
        summary="round to the grids of rtn, and let the columns to come make up for each error (calibrated)",
        bits=(2, 3, 4, 6, 8),
        params=(("group", 64), ("symmetric", True), ("act_order", False), ("damping", 0.01), *CALIBRATION),
        choices=_CALIBRATION_CHOICES,
        least=CALIBRATION_LEAST,
        calibrated=True,
    ),
)
