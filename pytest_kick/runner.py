"""One pass through a cell: load, compress, check, cast, probe. The only module that orders the steps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_kick.baseline import build_fingerprint
from pytest_kick.compress import Calibrator, compress_, finish_
from pytest_kick.errors import CompressionError, KickError
from pytest_kick.facts import load_facts, shipped_facts
from pytest_kick.instruments import Stopwatch, environment, peak_memory_bytes
from pytest_kick.models.cache import ModelCache
from pytest_kick.models.checkpoint import Trust
from pytest_kick.noise import BATCH_SIZES, noise_floors
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.reference import kept_reference, reference_key
from pytest_kick.registry import PROBES, load_target
from pytest_kick.result import Measurement, ProbeScore, Timing
from pytest_kick.series import refuse_missing
from pytest_kick.spec import CompressionSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.result import CompressionReport
    from pytest_kick.spec import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Hold what a pass through a cell depends on besides the cell.

    Attributes:
        cache: directory of fetched models.
        device: torch device of the forward pass.
        threads: torch threads of this process.
        limit: examples per probe, 0 for all.
        seed: of that sample.
        batch_size: examples per forward pass, 0 for the probe's choice.
        alone: no other worker shares the machine, so that timings mean something.
        offline: never use the network.
        allow_pickle: load pickle checkpoints.
        trust_remote_code: run code of a model's repository.
        data: directory of data sets, None where none was given.
        unsafe_code: tasks may run code that a model wrote.
        judge: endpoint and model of the judge, empty for none.
        judge_repeats: how often the same answers are judged.
        noise: how often a dense model is asked again, to see how far chance alone moves its scores.
    """

    cache: Path
    device: str = "cpu"
    threads: int = 1
    limit: int = 0
    seed: int = 0
    batch_size: int = 0
    alone: bool = True
    offline: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False
    data: Path | None = None
    unsafe_code: bool = False
    judge: tuple[str, ...] = ()
    judge_repeats: int = 1
    noise: int = 0


class _Measured(NamedTuple):
    """Hold what a pass through a cell leaves."""

    model: LoadedModel
    report: CompressionReport
    scores: tuple[ProbeScore, ...]
    noise_floor: Mapping[str, Mapping[str, float]]


class Runner:
    """Measure cells one after the other, with one model in memory."""

    def __init__(self, settings: RunSettings, progress: Callable[[str], None] = lambda _: None) -> None:
        """Set the threads of this process and start with no model."""
        self.settings = settings
        torch.set_num_threads(settings.threads)
        self._models = ModelCache(
            settings.cache,
            offline=settings.offline,
            allow_pickle=settings.allow_pickle,
            trust_remote_code=settings.trust_remote_code,
            progress=progress,
        )
        self._trust = Trust(allow_pickle=settings.allow_pickle, trust_remote_code=settings.trust_remote_code)
        self._probes: dict[tuple[ProbeSpec, str], Any] = {}
        self._calibrators: dict[str, Calibrator] = {}

    def run_case(self, case: Case, dtype: str, *, first_look: bool = False) -> Measurement:
        """Measure one cell.

        Args:
            case: the cell.
            dtype: of the forward pass, `float32` or `bfloat16`.
            first_look: ask `case.first_look` facts instead of all.

        Raises:
            KickError: the cell could not be measured; whatever else goes wrong inside it is reported as one.
        """
        watch = Stopwatch()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                measured = self._measure(case, dtype, watch, self._sample(case, first_look=first_look))
            except KickError:
                raise
            except Exception as error:
                # Written by others, perhaps with what a model said in it: nothing of it may steer a terminal.
                reason = " ".join("".join(letter if letter.isprintable() else " " for letter in str(error)).split())[:300]
                msg = f"{case.id}: cell: got {type(error).__name__} ({reason}), expected it to run. See it with --full-trace."
                raise CompressionError(msg) from error
        return self._assemble(case, dtype, measured, watch, caught)

    def prepare(self, case: Case, dtype: str, watch: Stopwatch | None = None) -> tuple[LoadedModel, CompressionReport]:
        """Return the model as a cell probes it: compressed, checked and cast. It stays so until the next cell.

        Args:
            case: the cell.
            dtype: of the forward pass, `float32` or `bfloat16`.
            watch: counts the phases.

        Raises:
            KickError: the model cannot be loaded, or not be compressed as asked.
        """
        watch = watch or Stopwatch()
        with watch.phase("load"):
            model = self._load(case)
        with watch.phase("restore"):
            model.fresh_()
        with watch.phase("compress"):
            report = compress_(model, case.compression, self._calibrator(case), self._trust)
        with watch.phase("cast"):
            model.cast_(getattr(torch, dtype), self.settings.device)
            finish_(model, case.compression)
        return model, report

    def _load(self, case: Case) -> LoadedModel:
        refuse_missing(case)
        return self._models.get(case.model)

    def _measure(self, case: Case, dtype: str, watch: Stopwatch, asked: dict[str, Any]) -> _Measured:
        try:
            references = self._references(case, dtype, watch, asked)
            model, report = self.prepare(case, dtype, watch)
            with watch.phase("evaluate"):
                scores = self._ask(case, model, asked, references)
            again = BATCH_SIZES[: self.settings.noise] if case.is_dense else ()
            repeats = [self._ask(case, model, asked | {"batch_size": size}, references) for size in again]
        except BaseException:
            self._models.drop()  # whatever state it is in; the next cell loads it again
            raise
        return _Measured(model, report, scores, noise_floors(scores, repeats) if repeats else {})

    def _ask(
        self, case: Case, model: LoadedModel, asked: dict[str, Any], references: Mapping[str, Mapping[str, Any]]
    ) -> tuple[ProbeScore, ...]:
        specs = case.probe_specs
        return tuple(self._probe(spec, case).run(model, **of_sample(spec, asked), **references.get(spec.id, {})) for spec in specs)

    def _sample(self, case: Case, *, first_look: bool) -> dict[str, Any]:
        """Return which examples to ask; a first look is the same whatever the run's seed."""
        limit, seed = (case.first_look, 0) if first_look else (self.settings.limit or None, self.settings.seed)
        return {"limit": limit, "seed": seed, "batch_size": self.settings.batch_size or None}

    def _calibrator(self, case: Case) -> Calibrator:
        """Return what gives calibrated methods their data; one per set of facts, none of which may lie in it."""
        if case.facts not in self._calibrators:
            facts = load_facts(Path(case.facts)) if case.facts else shipped_facts()
            s = self.settings
            self._calibrators[case.facts] = Calibrator(cache=s.cache, facts=(facts,), device=s.device, offline=s.offline)
        return self._calibrators[case.facts]

    def _references(self, case: Case, dtype: str, watch: Stopwatch, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return, for each probe that compares with answers of the dense model, those; from disk where they have been given before."""
        specs = [spec for spec in case.probe_specs if PROBES.get(spec.name, "probe").dense]
        if not specs:
            return {}
        with watch.phase("load"):
            model = self._load(case)
        dense = replace(case, compression=CompressionSpec(), budgets=())
        found = {}
        for spec in specs:
            probe = self._probe(spec, case)
            own = of_sample(spec, asked)
            key = reference_key(spec.id, probe, model, dtype, own)
            arrays = kept_reference(self.settings.cache, key, partial(self._reference, probe, dense, dtype, own))
            found[spec.id] = {"reference": arrays}
        return found

    def _reference(self, probe: Any, dense: Case, dtype: str, asked: dict[str, Any]) -> Mapping[str, Any]:  # noqa: ANN401 - any probe
        """Return what a probe keeps of the dense model."""
        model, _ = self.prepare(dense, dtype)
        arrays: Mapping[str, Any] = probe.reference(model, **asked)
        return arrays

    def _probe(self, spec: ProbeSpec, case: Case) -> Any:  # noqa: ANN401 - a probe of any package
        key = (spec, case.facts)
        if key not in self._probes:
            s = self.settings
            context = ProbeContext(
                spec=spec,
                facts=case.facts,
                data=s.data,
                cache=s.cache,
                offline=s.offline,
                unsafe_code=s.unsafe_code,
                judge=s.judge,
                judge_repeats=s.judge_repeats,
            )
            self._probes[key] = load_target(PROBES.get(spec.name, "probe").target)(context)
        return self._probes[key]

    def _assemble(
        self,
        case: Case,
        dtype: str,
        measured: _Measured,
        watch: Stopwatch,
        caught: list[warnings.WarningMessage],
    ) -> Measurement:
        model, report, scores, noise_floor = measured
        seconds = watch.phases
        evaluate = seconds.get("evaluate", 0.0)
        tokens = sum(score.work.get("tokens", 0.0) for score in scores)
        candidates = max((score.work.get("candidates_per_example", 0.0) for score in scores), default=0.0)
        return Measurement(
            cell=case.cell,
            dtype=dtype,
            scores=scores,
            compression=report,
            timing=Timing(
                seconds={name: round(value, 4) for name, value in seconds.items()},
                tokens_per_second=tokens / evaluate if evaluate else 0.0,
                candidates_per_example=candidates,
                peak_memory_bytes=peak_memory_bytes(),
                reliable=self.settings.alone,
            ),
            fingerprint=build_fingerprint(
                weights=model.weights_hash,
                architecture=model.architecture_hash,
                tokenizer=model.tokenizer_hash,
                compression=case.compression,
                calibration=[step.calibration for step in report.steps if step.calibration],
                checkpoints=[step.checkpoint for step in report.steps if step.checkpoint],
                scores=scores,
                noted={**environment(self.settings.threads), "device": self.settings.device, "batch_size": self.settings.batch_size},
            ),
            noise_floor=noise_floor,
            warnings=tuple(sorted({f"{w.category.__name__}: {' '.join(str(w.message).split())[:200]}" for w in caught})),
        )


def of_sample(spec: ProbeSpec, asked: dict[str, Any]) -> dict[str, Any]:
    """Return which examples a probe is asked: where it has a fixed sample, those or, under a smaller limit, a part of them."""
    if not spec.sample:
        return asked
    return {**asked, "limit": min(spec.sample, asked["limit"] or spec.sample), "seed": 0}
