"""What a failed cell prints: about ten lines that say what was lost, against what, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_kick.report.brief import plain
from pytest_kick.report.judged import judged_lines
from pytest_kick.report.numbers import count, fraction, interval, probability
from pytest_kick.report.rows import cell_parts
from pytest_kick.verdict import FORGOT, INCONCLUSIVE, REGRESSED, RETAINED, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.verdict import Check, GroupLoss, Regression, Verdict

Describe = Callable[[str, int], str]
_LABEL = 12
_N_RECORDS = 2
_N_EXAMPLES = 3
_N_NOTED = 3
_LIMITS = {
    "retention": "budget at least",
    "drop": "budget: a drop of at most",
    "flips": "budget: flips of at most",
    "ratio": "budget: at most, times dense,",
    "at_most": "budget: at most",
}
_FOUND = {"at_most": "distance"}


def failure_lines(
    verdict: Verdict,
    *,
    model: str,
    command: str,
    describe: Describe | None = None,
    recorded: str = "",
    noted: Sequence[str] = (),
    accepted: bool = False,
    scores: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Return the lines of a cell that failed or could not be decided.

    Args:
        verdict: what was judged.
        model: name of the model.
        command: what records the cell again, such as `pytest "<nodeid>" --kick-update`.
        describe: (example id, index of the answer predicted now) -> the example in words, such as
            `The capital of Peru is -> Lima, now Cusco`; baselines hold no text. The id alone where it is None.
        recorded: date of the stored run.
        noted: differences of noted fingerprint fields, `field: old -> new`.
        accepted: the run replaces the stored run, so that only a budget can be red.
        scores: what was measured, each `ProbeScore.plain()`, for what is to be said of a judge.
    """
    method, scope, level = cell_parts(verdict.cell)
    title = " ".join(part for part in (method, scope, level) if part)
    checks = sorted(verdict.checks, key=lambda check: (FORGOT, INCONCLUSIVE, RETAINED).index(check.word))
    regressions = sorted(verdict.regressions, key=lambda record: record.word != REGRESSED)
    probes = ", ".join(f"{r.probe} (n={count(r.n)}, paired)" for r in {r.probe: r for r in verdict.regressions}.values())
    word = verdict.retention_word if accepted else verdict.word
    lines = [f"kick: {word}: {model} | {title} | {probes} | {verdict.dtype}"]
    several = len({record.probe for record in verdict.regressions} | {check.probe for check in checks}) > 1
    for check in checks[:_N_RECORDS]:
        lines += _check_lines(check, verdict, _named(check, several=several))
    for record in regressions[:_N_RECORDS]:
        lines += _regression_lines(record, _named(record, several=several))
    lines += _judge_lines([*checks[:_N_RECORDS], *regressions[:_N_RECORDS]], scores)
    lines += _group_lines(verdict.worst_groups, verdict.worst_against, describe)
    lines += _stored_line(recorded, noted)
    return [plain(line) for line in (*lines, *_advice(verdict, "" if accepted else command))]


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _named(record: Check | Regression, *, several: bool) -> str:
    """Return the metric, with its probe where the cell has several."""
    return f"{record.probe} {record.metric}" if several else record.metric


def _check_lines(check: Check, verdict: Verdict, name: str) -> list[str]:
    """Return dense, now, interval and budget; then the flips."""
    record = verdict.retention(check.probe, check.metric)
    assert record is not None
    two_sided = round(100 * (2 * verdict.confidence - 1), 6)
    kind = _FOUND.get(check.kind, check.kind)
    found = f"{kind} {fraction(check.estimate)}, {two_sided:g}% interval {interval(check.low, check.high)}"
    limit = f"{_LIMITS[check.kind]} {fraction(check.limit)}"
    more = "" if check.n_more is None else f" ({count(check.n_more)} more examples like these would decide)"
    changed = "" if record.changed is None else f", {count(record.changed)} wrong ones answered otherwise"
    flips = f"{count(record.lost)} lost, {count(record.gained)} gained{changed}; flips {fraction(record.flips)}"
    if record.kind != "outcome":
        flips = f"{count(record.lost)} of {count(record.n)} examples worse, {count(record.gained)} better"
    return [
        _labelled(kind, f"{name}: dense {fraction(record.p_dense)} -> now {fraction(record.p_now)}; {found}"),
        _labelled("", f"{limit}: {check.word}{more}"),
        _labelled("vs dense", flips),
    ]


def _regression_lines(record: Regression, name: str) -> list[str]:
    if record.p_stored is None:
        return [_labelled("stored run", f"{name}: none, this cell is new")]
    scores = f"{name}: stored {fraction(record.p_stored)} -> now {fraction(record.p_now)}"
    if record.word == UNCHANGED:
        return [_labelled("regression", f"{scores}: {record.word}")]
    test = f"p={probability(record.p_value)}, limit {probability(record.threshold)}; noise {record.noise_floor:.1f} net"
    flips = f"{count(record.lost)} lost, {count(record.gained)} gained"
    if record.kind != "outcome":
        test = f"p={probability(record.p_value)}, limit {probability(record.threshold)}; noise {record.noise_floor:g}"
        flips = f"{count(record.lost)} worse, {count(record.gained)} better"
    return [_labelled("regression", f"{scores}; {flips} ({test}): {record.word}")]


def _judge_lines(told: Sequence[Check | Regression], scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a judge's noise, and what it left out, for the metrics that were told."""
    by_probe = {score["probe"]: score for score in scores}
    lines = []
    for probe, metric in dict.fromkeys((entry.probe, entry.metric) for entry in told if entry.probe in by_probe):
        lines += [_labelled("judge", f"{metric}: {line}") for line in judged_lines(by_probe[probe], metric)]
    return lines


def _group_lines(groups: Sequence[GroupLoss], against: str, describe: Describe | None) -> list[str]:
    if not groups:
        return []
    worst, others = groups[0], groups[1:]
    then = "".join(f"; then {group.name} {count(group.lost)}" for group in others[:2])
    lines = [
        _labelled("worst", f"{worst.name}: {count(worst.lost)} lost, {count(worst.gained)} gained of {count(worst.n)} vs {against}{then}")
    ]
    say = describe or (lambda name, _: name)
    return lines + [_labelled("", say(example.id, example.now)) for example in worst.examples[:_N_EXAMPLES]]


def _stored_line(recorded: str, noted: Sequence[str]) -> list[str]:
    if not recorded:
        return []
    more = f"; {len(noted) - _N_NOTED} more" if len(noted) > _N_NOTED else ""
    differs = f"; differs since: {'; '.join(noted[:_N_NOTED])}{more}" if noted else "; same versions and machine"
    return [_labelled("stored", f"{recorded}; same weights, tokenizer and examples{differs}")]


def _advice(verdict: Verdict, command: str) -> list[str]:
    """Return what accepts the change; a budget is never accepted away by recording, and what is recorded needs no `command`."""
    lines = []
    if any(check.word == FORGOT for check in verdict.checks):
        lines.append(_labelled("accept", "a budget is accepted in its suite only: change it there, --kick-update keeps FORGOT red"))
    elif any(check.word == INCONCLUSIVE for check in verdict.checks):
        lines.append(_labelled("accept", "use more examples, a wider budget, or --kick-inconclusive=warn"))
    if command and any(record.word == REGRESSED for record in verdict.regressions):
        lines.append(_labelled("accept", command))
    return lines
