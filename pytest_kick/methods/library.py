"""Methods as people deploy them: by the code of a library, or as it computes them."""

from __future__ import annotations

from pytest_kick.infos import MethodInfo

LIBRARY = (
    MethodInfo(
        name="nf4",
        level="bits",
        target="pytest_kick.compress.library:nf4",
        check="pytest_kick.compress.check_library:check_blocks",
        summary="round weights to the 16 numbers of nf4 or fp4, scaled per block (bitsandbytes; extra bnb)",
        bits=(4,),
        params=(("format", "nf4"), ("block", 64), ("double_quant", False)),
        choices=(("format", ("nf4", "fp4")), ("block", (32, 64, 128, 256, 512, 1024))),
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
)
