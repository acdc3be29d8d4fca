"""Methods as people deploy them: by the code of a library, or as it computes them."""

from __future__ import annotations

from pytest_kick.infos import CALIBRATION, CALIBRATION_CHOICES, CALIBRATION_LEAST, EXECUTION, EXECUTION_CHOICES, MethodInfo

_ON_DENSE = tuple((key, "dense" if key == "propagate" else value) for key, value in CALIBRATION)
"""As their papers have it: what a layer reads is taken from the dense model."""

LIBRARY = (
    MethodInfo(
        name="nf4",
        level="bits",
        target="pytest_kick.compress.library:nf4",
        check="pytest_kick.compress.check_library:check_blocks",
        summary="round weights to the 16 numbers of nf4 or fp4, scaled per block (bitsandbytes; extra bnb)",
        bits=(4,),
        params=(("format", "nf4"), ("block", 64), ("double_quant", False), EXECUTION),
        choices=(("format", ("nf4", "fp4")), ("block", (32, 64, 128, 256, 512, 1024)), EXECUTION_CHOICES),
        extra="bnb",
        needs="bitsandbytes",
    ),
    MethodInfo(
        name="hqq",
        level="bits",
        target="pytest_kick.compress.library:hqq",
        check="pytest_kick.compress.check_library:check_affine",
        summary="round weights to grids whose zero point gives up outliers for the others (hqq; extra hqq)",
        bits=(1, 2, 3, 4, 8),
        params=(("group", 64), ("axis", 1)),
        choices=(("axis", (0, 1)),),
        zeroless=True,
        extra="hqq",
        needs="hqq",
    ),
    MethodInfo(
        name="llm_int8",
        level="bits",
        target="pytest_kick.compress.activations:llm_int8",
        check="pytest_kick.compress.check_activations:check_rows",
        summary="int8 weights per output channel, int8 activations per token but for outliers",
        bits=(8,),
        params=(("threshold", 6.0), ("columns", "token"), EXECUTION),
        choices=(("columns", ("token", "batch")), EXECUTION_CHOICES),
    ),
    MethodInfo(
        name="smoothquant",
        level="bits",
        target="pytest_kick.compress.activations:smoothquant",
        check="pytest_kick.compress.check_activations:check_rows",
        summary="int8 weights and activations, after magnitude was moved from these to those (calibrated)",
        bits=(8,),
        params=(("alpha", 0.5), *_ON_DENSE),
        choices=CALIBRATION_CHOICES,
        least=CALIBRATION_LEAST,
        calibrated=True,
    ),
    MethodInfo(
        name="awq",
        level="bits",
        target="pytest_kick.compress.awq:awq",
        check="pytest_kick.compress.check_awq:check_scaled",
        summary="round to the grids of rtn, columns of large inputs enlarged before (calibrated)",
        bits=(2, 3, 4, 8),
        params=(("group", 64), ("symmetric", True), ("clip", False), *_ON_DENSE),
        choices=CALIBRATION_CHOICES,
        least=CALIBRATION_LEAST,
        calibrated=True,
    ),
)
