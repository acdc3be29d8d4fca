"""Exceptions of pytest-kick.

A `KickError` says that something could not be measured (bad input, a model that does not load, a method
that touched nothing): it is an error of the cell or of the run, never a pass and never a regression.
`RegressionError` is an outcome: the cell was measured and the verdict is red.

Every message is one line: `<where>: <field>: got <value>, expected <rule>. <what to do>.`
"""

from __future__ import annotations


class KickError(Exception):
    """Report a malfunction: base of everything that could not be measured."""


class UsageError(KickError):
    """Report a bad option, ini value or suite: the run stops before anything is measured."""


class UnknownNameError(UsageError):
    """Report a name of a method or a probe that nothing has registered, or not yet."""


class SuiteError(UsageError):
    """Report a suite file that is malformed or names something that does not exist."""


class FactsError(KickError):
    """Report a facts file that is malformed."""


class ModelError(KickError):
    """Report a model that cannot be found, fetched, trusted or loaded."""


class FetchError(ModelError):
    """Report a model whose files could not be fetched or unpacked."""


class ScopeError(KickError):
    """Report a scope that is unknown, empty, or not defined for an architecture."""


class CompressionError(KickError):
    """Report a compression that failed or did not achieve what was asked."""


class CalibrationError(KickError):
    """Report calibration data that are missing, too few or leaking, or a matrix whose inputs cannot be had."""


class DataError(KickError):
    """Report a data set that is not there, is malformed, or may not be used as asked."""


class ProbeError(KickError):
    """Report a probe that could not score a model, NaN and infinite logits included."""


class UnjudgeableError(KickError):
    """Report a cell that was measured and cannot be judged: the dense model knows too little, or a budget names what there is not."""


class BaselineError(KickError):
    """Report a baseline that cannot be read or written."""


class MissingBaselineError(BaselineError):
    """Report a baseline that has not been recorded."""


class StaleBaselineError(BaselineError):
    """Report a baseline that measured something else: a blocking fingerprint field differs."""


class RegressionError(AssertionError):
    """Fail a cell: it was measured, and its verdict is FORGOT, REGRESSED or (by default) INCONCLUSIVE."""
