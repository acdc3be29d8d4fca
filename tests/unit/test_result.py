from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from made_measurements import L1, make_examples, make_measurement, make_score

from pytest_kick.errors import KickError
from pytest_kick.examples import Examples
from pytest_kick.result import Measurement, ProbeScore

RIGHT = np.array([True, False, True, True, False])


def same(one: Examples, other: Examples) -> bool:
    """Return whether two sets of examples are equal, values and types."""
    pairs = [(one.ids, other.ids), (one.groups, other.groups), (one.hashes, other.hashes)]
    pairs += [(one.arrays[name], other.arrays[name]) for name in one.arrays]
    return one.arrays.keys() == other.arrays.keys() and all(
        a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs
    )


def named(ids: list[str], **arrays: np.ndarray) -> Examples:
    """Return examples with these ids."""
    n = len(ids)
    return Examples(
        ids=np.array(ids, dtype=np.str_), groups=np.array(["g"] * n, dtype=np.str_), hashes=np.zeros(n, dtype=np.uint32), arrays=arrays
    )


def test_a_measurement_crosses_as_json() -> None:
    """A measurement comes back from JSON as it was, examples bit for bit."""
    for measurement in (make_measurement(RIGHT), replace(make_measurement(RIGHT, compression=L1), warnings=("w",))):
        back = Measurement.from_json(json.loads(json.dumps(measurement.to_json())))
        assert same(back.scores[0].examples, measurement.scores[0].examples)
        assert back.compression == measurement.compression
        assert back.timing == measurement.timing
        assert (back.cell, back.dtype, back.warnings) == (measurement.cell, measurement.dtype, measurement.warnings)
        assert back.to_json() == measurement.to_json()


def test_scores_are_found_by_probe() -> None:
    """A score is found by its probe's name; a probe that was not run has none."""
    measurement = make_measurement(RIGHT)
    score = measurement.score("facts")
    assert score is not None
    assert score.probe == "facts"
    assert measurement.score("other") is None


def test_a_score_keeps_every_field() -> None:
    """No field of a score is lost on the way."""
    score = make_score(make_examples(RIGHT), metric="free_p1", excluded={"x": 1})
    back = ProbeScore.from_json(json.loads(json.dumps(score.to_json())))
    assert {key: value for key, value in back.to_json().items() if key != "examples"} == {
        key: value for key, value in score.to_json().items() if key != "examples"
    }


@pytest.mark.parametrize("ids", [[], ["a"], ["é/Ångström", "东京", "a"], ["x" * 300, "y"]])
def test_any_id_travels(ids: list[str]) -> None:
    """Ids in any script, long ones and none at all come back equal, as do NaN and infinite scores."""
    scores = np.array([np.nan, np.inf, -np.inf][: len(ids)], dtype=np.float32)
    examples = named(ids, margin=scores)
    assert same(Examples.from_npz(examples.to_npz()), examples)


def test_equal_content_is_equal_bytes() -> None:
    """The bytes depend on the content only: not on the order of arrays, the time, or the width of the string type."""
    one, two = np.array([True, False]), np.array([1, 2], dtype=np.int32)
    first = named(["a", "b"], p1=one, predicted=two)
    second = Examples(
        ids=np.array(["a", "b"], dtype="U40"),
        groups=np.array(["g", "g"], dtype="U9"),
        hashes=np.zeros(2, dtype=np.uint32),
        arrays={"predicted": two, "p1": one},
    )
    assert first.to_npz() == second.to_npz()


def test_arrays_must_agree() -> None:
    """Arrays of another length, and ids that repeat, are refused."""
    with pytest.raises(KickError, match=r"^examples: arrays: got lengths \{'p1': 1\}, expected 2 as the ids have\. .*\.$"):
        named(["a", "b"], p1=np.array([True]))
    with pytest.raises(KickError, match=r"^examples: ids: got duplicates among 2, expected unique ids\. .*\.$"):
        named(["a", "a"])


def test_outcomes_are_boolean() -> None:
    """A metric is a boolean array; a score that is none is refused with the names of those that are."""
    examples = make_examples(RIGHT)
    assert examples.outcome("p1").tolist() == RIGHT.tolist()
    for name in ("margin", "p7"):
        with pytest.raises(KickError, match=rf"^examples: metric: got '{name}', expected one of free_p1, p1\. .*\.$"):
            examples.outcome(name)


def test_subsets_follow_the_ids_asked_for() -> None:
    """A subset has the ids asked for, in that order, each with its own values; an unknown id is refused."""
    examples = make_examples(RIGHT)
    wanted = examples.ids[[3, 0]]
    part = examples.subset(wanted)
    assert part.ids.tolist() == wanted.tolist()
    assert part.outcome("p1").tolist() == [True, True]
    assert part.hashes.tolist() == examples.hashes[[3, 0]].tolist()
    assert len(examples.subset(examples.ids[:0])) == 0
    for name in ("a", "zzz"):
        with pytest.raises(KickError, match=rf"^examples: ids: got '{name}', expected an id of the 5 examples compared with\."):
            examples.subset(np.array([str(wanted[0]), name]))


@pytest.mark.parametrize("damage", [b"", b"PK", b"not a zip", None, "half"])
def test_damaged_bytes(damage: bytes | str | None) -> None:
    """Bytes that are empty, cut off, flipped or something else are one line."""
    whole = make_examples(RIGHT).to_npz()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    data = bytes(flipped) if damage is None else whole[: len(whole) // 2] if damage == "half" else bytes(damage)  # type: ignore[arg-type]
    with pytest.raises(KickError, match=r"^examples: npz: got .*, expected what this tool wrote\. Record it again\.$") as caught:
        Examples.from_npz(data)
    assert "\n" not in str(caught.value)


def test_no_pickle_is_read() -> None:
    """An archive with pickled objects is refused, not run."""
    import io  # noqa: PLC0415 - here alone

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, ids=np.array([object()], dtype=object))
    with pytest.raises(KickError, match="npz"):
        Examples.from_npz(buffer.getvalue())
    assert base64.b64encode(buffer.getvalue())
