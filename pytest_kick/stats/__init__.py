"""Paired intervals and tests, multiplicity and power; numpy and scipy, no torch.

Every comparison is paired: both models answer the same examples. Confidence 0.95 means that EACH one-sided
bound is wrong at most 5% of the time; the interval printed is the matching two-sided 90% one.
scipy is imported inside the functions that need it: importing it costs about 0.15 s, and this package is
imported at collection, where nothing is computed.
"""

from __future__ import annotations

from pytest_kick.stats.bootstrap import (
    bootstrap_interval,
    equivalent,
    paired_difference_of_retentions,
    percentile_interval,
    resamples,
    weighted_mean,
)
from pytest_kick.stats.counts import Interval, PairedCounts, critical_z
from pytest_kick.stats.exact import bonferroni, flips_interval, holm, mcnemar_exact_one_sided
from pytest_kick.stats.levels import CriticalLevel, SteepestStep, critical_level, steepest_step
from pytest_kick.stats.paired import PairedMean, paired_mean
from pytest_kick.stats.power import n_more_to_decide, smallest_detectable_drop, smallest_detectable_retention_loss
from pytest_kick.stats.score import (
    ScoreTest,
    dense_margin_lower_bound,
    drop_interval,
    judgeable,
    retention,
    retention_interval,
    retention_score_test,
)

__all__ = [
    "CriticalLevel",
    "Interval",
    "PairedCounts",
    "PairedMean",
    "ScoreTest",
    "SteepestStep",
    "bonferroni",
    "bootstrap_interval",
    "critical_level",
    "critical_z",
    "dense_margin_lower_bound",
    "drop_interval",
    "equivalent",
    "flips_interval",
    "holm",
    "judgeable",
    "mcnemar_exact_one_sided",
    "n_more_to_decide",
    "paired_difference_of_retentions",
    "paired_mean",
    "percentile_interval",
    "resamples",
    "retention",
    "retention_interval",
    "retention_score_test",
    "smallest_detectable_drop",
    "smallest_detectable_retention_loss",
    "steepest_step",
    "weighted_mean",
]
