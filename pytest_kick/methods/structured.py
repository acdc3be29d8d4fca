"""Methods that take heads, neurons, blocks or ranks away, and noise of a size to compare with."""

from __future__ import annotations

from pytest_kick.infos import CALIBRATION, CALIBRATION_CHOICES, CALIBRATION_LEAST, MethodInfo

_CHECK_UNITS = "pytest_kick.compress.check_dropped:check_units"
_CHECK_RANK = "pytest_kick.compress.check_low_rank:check_low_rank"
_UNITS = (("order", "norm"), ("among", "layer"), ("sparsity_of", "scope"), ("seed", 0))
_OF_CHOICES = ("sparsity_of", ("scope", "model"))
_UNITS_CHOICES = (("order", ("norm", "random")), ("among", ("layer", "scope")), _OF_CHOICES)

REDUCTION = (
    MethodInfo(
        name="drop_heads",
        level="sparsity",
        also=("count",),
        target="pytest_kick.compress.drop:drop_heads",
        check=_CHECK_UNITS,
        summary="drop attention heads of smallest norm, or random ones; key-value heads with all their queries",
        params=_UNITS,
        choices=_UNITS_CHOICES,
    ),
    MethodInfo(
        name="drop_neurons",
        level="sparsity",
        also=("count",),
        target="pytest_kick.compress.drop:drop_neurons",
        check=_CHECK_UNITS,
        summary="drop neurons of the feed-forward layers of smallest norm, or random ones",
        params=_UNITS,
        choices=_UNITS_CHOICES,
    ),
    MethodInfo(
        name="drop_layers",
        level="sparsity",
        also=("count",),
        target="pytest_kick.compress.drop:drop_layers",
        check="pytest_kick.compress.check_dropped:check_blocks",
        summary="drop whole blocks: from the last but one down, the last, evenly spaced, of smallest norm, or random ones",
        params=(("order", "deep"), ("sparsity_of", "scope"), ("seed", 0)),
        choices=(("order", ("deep", "last", "even", "norm", "random")), _OF_CHOICES),
    ),
    MethodInfo(
        name="low_rank",
        level="sparsity",
        also=("rank",),
        target="pytest_kick.compress.low_rank:low_rank",
        check=_CHECK_RANK,
        summary="replace each matrix by the nearest one of a lower rank (SVD)",
    ),
    MethodInfo(
        name="low_rank_aware",
        level="sparsity",
        also=("rank",),
        target="pytest_kick.compress.low_rank:low_rank_aware",
        check=_CHECK_RANK,
        summary="replace each matrix by the one of a lower rank whose outputs are nearest (calibrated)",
        params=(("damping", 0.01), *CALIBRATION),
        choices=CALIBRATION_CHOICES,
        least=CALIBRATION_LEAST,
        calibrated=True,
    ),
    MethodInfo(
        name="weight_noise",
        level="sigma",
        target="pytest_kick.compress.noise:weight_noise",
        check="pytest_kick.compress.check_noise:check_noise",
        summary="add Gaussian noise of sigma times the root mean square of each matrix: the control",
        params=(("seed", 0),),
    ),
)
