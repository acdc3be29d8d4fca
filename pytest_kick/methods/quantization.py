"""Methods that round weights, and those that round activations too, without another package."""

from __future__ import annotations

from pytest_kick.infos import CALIBRATION, CALIBRATION_CHOICES, CALIBRATION_LEAST, EXECUTION, EXECUTION_CHOICES, MethodInfo

_FLOATS = (("bf16", 16), ("fp16", 16), ("fp8_e4m3", 8), ("fp8_e5m2", 8))

QUANTIZATION = (
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
        params=(("group", 64), ("symmetric", True), EXECUTION),
        choices=(EXECUTION_CHOICES,),
        words=(("group", ("tensor",)),),
    ),
    MethodInfo(
        name="cast",
        level="bits",
        target="pytest_kick.compress.weight_only:cast",
        summary="round weights to a floating-point format: bf16, fp16, or fp8 with a scale per channel",
        bits=(8, 16),
        params=(("format", "bf16"), EXECUTION),
        choices=(("format", tuple(name for name, _ in _FLOATS)), EXECUTION_CHOICES),
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
        name="gptq",
        level="bits",
        target="pytest_kick.compress.calibrated:gptq",
        summary="round to the grids of rtn, and let the columns to come make up for each error (calibrated)",
        bits=(2, 3, 4, 6, 8),
        params=(("group", 64), ("symmetric", True), ("act_order", False), ("damping", 0.01), *CALIBRATION),
        choices=CALIBRATION_CHOICES,
        least=CALIBRATION_LEAST,
        calibrated=True,
    ),
)
