"""The stored runs: what is written reads back, and what may not be compared is refused in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_measurements import DENSE, L1, make_examples, make_measurement, make_score

from pytest_kick.baseline import BaselineStore, build_fingerprint, check_fresh, differences, examples_digest
from pytest_kick.baseline.files import replace_all
from pytest_kick.errors import BaselineError, MissingBaselineError, StaleBaselineError
from pytest_kick.examples import Examples
from pytest_kick.infos import MeanInfo
from pytest_kick.spec import CompressionSpec, CompressionStep

GOLDEN = Path(__file__).parents[1] / "golden" / "baselines-schema1"
RIGHT = np.arange(40) % 3 > 0


def tree(root: Path) -> dict[str, bytes]:
    """Return all files below `root`, dot files included."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Return the message, after checking that it is one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    """Return a store that holds the dense cell and one pruned cell of model `m`."""
    store = BaselineStore(tmp_path / "baselines")
    assert store.write(replace(make_measurement(RIGHT), noise_floor={"facts": {"p1": 0.004}}), "m", recorded="2026-11-18")
    assert store.write(make_measurement(RIGHT & (np.arange(40) % 5 > 0), compression=L1), "m", recorded="2026-11-18")
    return store


# What is written reads back


def test_a_stored_run_reads_back(store: BaselineStore) -> None:
    """Scores, metrics, compression, timing, fingerprint and noise floor come back; outcomes and answers exactly."""
    wanted = make_measurement(RIGHT & (np.arange(40) % 5 > 0), compression=L1)
    found = store.read("m", "float32", L1.id)
    assert (found.model, found.cell, found.dtype, found.recorded) == ("m", L1.id, "float32", "2026-11-18")
    assert found.compression == wanted.compression
    assert found.timing == wanted.timing
    assert found.fingerprint == wanted.fingerprint
    assert store.read("m", "float32", "dense").noise_floor == {"facts": {"p1": 0.004}}
    score, read = wanted.scores[0], found.scores[0]
    assert {name: getattr(read, name) for name in ("metrics", "floors", "trivial", "n", "excluded", "settings", "version", "metric")} == {
        name: getattr(score, name) for name in ("metrics", "floors", "trivial", "n", "excluded", "settings", "version", "metric")
    }
    same = read.examples.subset(score.examples.ids)
    assert same.groups.tolist() == score.examples.groups.tolist()
    assert same.hashes.tolist() == score.examples.hashes.tolist()
    for name in ("p1", "free_p1", "predicted"):
        assert same.arrays[name].dtype == score.examples.arrays[name].dtype
        assert same.arrays[name].tolist() == score.examples.arrays[name].tolist()
    assert same.arrays["margin"] == pytest.approx(score.examples.arrays["margin"], rel=1e-3)
    assert same.arrays["margin"].dtype == np.float32


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_examples_read_back(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ids in any script, any number of examples, any int32 answer, any finite score survive a round trip."""
    names = data.draw(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1, unique=True))
    n = len(names)
    numbers = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=n, max_size=n)
    scores = st.lists(st.floats(-60000, 60000, width=16), min_size=n, max_size=n)
    right = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    examples = Examples(
        ids=np.array(names),
        groups=np.array(["g"] * n),
        hashes=np.array(data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=n, max_size=n)), dtype=np.uint32),
        arrays={
            "p1": right,
            "predicted": np.array(data.draw(numbers), dtype=np.int32),
            "margin": np.array(data.draw(scores), dtype=np.float32),
        },
    )
    store = BaselineStore(tmp_path_factory.mktemp("b"))
    measurement = make_measurement(scores=(make_score(examples),))
    store.write(measurement, "m")
    found = store.read("m", "float32", "dense").examples["facts"].subset(examples.ids)
    assert found.hashes.tolist() == examples.hashes.tolist()
    assert {name: found.arrays[name].tolist() for name in found.arrays} == {name: v.tolist() for name, v in examples.arrays.items()}
    check_fresh(store.read("m", "float32", "dense"), measurement)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """The order in which a probe holds its examples does not reach the files."""
    measurement = make_measurement(RIGHT)
    score = measurement.scores[0]
    shuffled = replace(measurement, scores=(replace(score, examples=score.examples.take(np.random.default_rng(1).permutation(40))),))
    BaselineStore(tmp_path / "a").write(measurement, "m", recorded="2026-11-18")
    BaselineStore(tmp_path / "b").write(shuffled, "m", recorded="2026-11-18")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_recording_the_same_again_changes_no_file(store: BaselineStore) -> None:
    """A second run that measured the same, at another date and speed, leaves the files alone; another outcome does not."""
    before = tree(store.root)
    again = make_measurement(RIGHT, noted={"torch": "9.9"})
    again = replace(again, timing=replace(again.timing, seconds={"evaluate": 99.0}))
    assert not store.write(again, "m", recorded="2027-01-01")
    assert tree(store.root) == before
    assert store.write(make_measurement(~RIGHT), "m", recorded="2027-01-01")
    assert store.read("m", "float32", "dense").recorded == "2027-01-01"


@pytest.mark.parametrize("floor", [1e9, 0.5, -1, float("nan"), "x", True])
def test_a_noise_floor_that_would_excuse_anything_is_refused(store: BaselineStore, floor: object) -> None:
    """A stored noise floor is a fraction below one half; another would switch REGRESSED off, so the file is not read."""
    store.write(replace(make_measurement(RIGHT), noise_floor={"facts": {"p1": 0.004}}), "m")
    path = store.path("m", "float32", "dense")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["noise_floor"] = {"facts": {"p1": floor}}
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BaselineError, match=r"noise_floor: got|not JSON|NaN"):
        store.read("m", "float32", "dense")


def test_a_noise_floor_of_a_mean_is_in_its_own_units(store: BaselineStore) -> None:
    """A judge's scores go from 1 to 10: their mean may move by more than one half, and the file still reads."""
    score = replace(make_score(make_examples(RIGHT)), means=(MeanInfo(name="margin", kind="score"),))
    store.write(replace(make_measurement(scores=(score,)), noise_floor={"facts": {"margin": 0.8}}), "n")
    assert store.read("n", "float32", "dense").noise_floor == {"facts": {"margin": 0.8}}


def test_the_noise_floor_outlives_a_new_outcome_but_not_another_model(store: BaselineStore) -> None:
    """It was measured for these weights and examples: it is kept for them, and dropped with them."""
    store.write(make_measurement(~RIGHT), "m")
    assert store.read("m", "float32", "dense").noise_floor == {"facts": {"p1": 0.004}}
    store.write(make_measurement(~RIGHT, weights="c" * 64), "m")
    assert store.read("m", "float32", "dense").noise_floor == {}


def test_the_noise_floor_outlives_another_probe(store: BaselineStore) -> None:
    """A probe that is recorded besides leaves the floors of the others; one measured again replaces its own."""
    measured = make_measurement(RIGHT)
    other = make_measurement(scores=(make_score(make_examples(RIGHT), probe="bear"),))
    store.write(replace(other, noise_floor={"bear": {"p1": 0.01}}), "m")
    assert store.read("m", "float32", "dense").noise_floor == {"facts": {"p1": 0.004}, "bear": {"p1": 0.01}}
    store.write(replace(measured, noise_floor={"facts": {"p1": 0.002}}), "m")
    assert store.read("m", "float32", "dense").noise_floor == {"facts": {"p1": 0.002}, "bear": {"p1": 0.01}}


def test_a_cell_of_2600_facts_takes_at_most_25_kilobytes(tmp_path: Path) -> None:
    """What identifies the examples is shared by the cells of a model: only outcomes are stored per cell."""
    rng = np.random.default_rng(0)
    store = BaselineStore(tmp_path)
    for seed, compression in enumerate((DENSE, L1)):
        store.write(make_measurement(rng.random(2600) < 0.4, compression=compression, seed=seed), "m")
    sizes = {name: len(data) for name, data in tree(tmp_path).items()}
    assert sum(name.endswith(".json") or "/float32/" in name for name in sizes) == 4
    assert len([name for name in sizes if name.startswith("m/facts-")]) == 1
    assert sizes[f"m/float32/{L1.id}.json"] + sizes[f"m/float32/{L1.id}.npz"] <= 25_000


def test_no_text_of_the_data_is_stored(store: BaselineStore) -> None:
    """The JSON names probes, numbers and digests; not one example."""
    document = (store.root / "m/float32/dense.json").read_text()
    assert "g0/0" not in document
    assert document.endswith("}\n")
    assert json.loads(document)["schema"] == 1
    assert list(json.loads(document)) == sorted(json.loads(document))


def test_golden_schema_1_still_reads() -> None:
    """Files that the first release wrote read for good, with the values they were written with."""
    found = BaselineStore(GOLDEN).read("tiny", "bfloat16", L1.id)
    wanted = make_measurement(np.arange(20) % 3 > 0, compression=L1, dtype="bfloat16")
    check_fresh(found, wanted)
    assert found.recorded == "2026-11-18"
    examples, now = found.examples["facts"], wanted.scores[0].examples
    assert examples.subset(now.ids).arrays["predicted"].tolist() == now.arrays["predicted"].tolist()
    assert found.scores[0].metrics == wanted.scores[0].metrics
    assert found.compression == wanted.compression


def test_golden_schema_1_is_what_is_written(tmp_path: Path) -> None:
    """A change of the document is a new schema: the JSON of the same measurement equals the golden one, field by field."""
    store = BaselineStore(tmp_path)
    store.write(make_measurement(np.arange(20) % 3 > 0, compression=L1, dtype="bfloat16"), "tiny", recorded="2026-11-18")
    old, new = (json.loads((root / f"tiny/bfloat16/{L1.id}.json").read_text()) for root in (GOLDEN, tmp_path))
    # The bytes of an archive depend on the zlib at hand.
    assert {**old, "arrays_sha256": ""} == {**new, "arrays_sha256": ""}


# Bad input


def test_missing_names_the_command(store: BaselineStore) -> None:
    """A cell that was never recorded says how to record it."""
    with pytest.raises(MissingBaselineError) as error:
        store.read("m", "bfloat16", "dense", command='pytest "x.py::t[a]" --kick-update')
    assert one_line(error).endswith('Record it: pytest "x.py::t[a]" --kick-update')
    assert not store.has("m", "bfloat16", "dense")
    assert store.seconds("m", "bfloat16", "dense") is None
    assert store.seconds("m", "float32", "dense") == pytest.approx(5.8)


def test_the_time_of_a_cell_is_that_of_the_probes_it_is_asked(tmp_path: Path) -> None:
    """A stored run of several probes holds their time together: each takes its part by tokens, and of these by examples."""
    store = BaselineStore(tmp_path)
    facts, trivia = make_examples(np.arange(100) < 50), make_examples(np.arange(20) < 10)
    scores = (
        make_score(facts, work={"tokens": 300.0}),
        make_score(trivia, probe="trivia", work={"tokens": 900.0}),
    )
    store.write(make_measurement(scores=scores), "m")
    whole = store.seconds("m", "float32", "dense")
    evaluate = make_measurement(scores=scores).timing.seconds["evaluate"]
    assert whole is not None
    assert store.seconds("m", "float32", "dense", probes=("facts", "trivia")) == pytest.approx(whole)
    assert store.seconds("m", "float32", "dense", probes=("facts",)) == pytest.approx(whole - evaluate * 0.75)
    assert store.seconds("m", "float32", "dense", probes=("facts",), asked=25) == pytest.approx(whole - evaluate * (1 - 0.25 * 0.25))
    assert store.seconds("m", "float32", "dense", asked=50) == pytest.approx(whole - evaluate * 0.25 * 0.5)


@pytest.mark.parametrize("part", ["..", "../x", "a/b", "/etc", "", ".hidden", "a\\b", "a b", "x\n"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_no_name_leaves_the_directory(tmp_path: Path, part: str, place: int) -> None:
    """Model, dtype and cell are plain file names, or nothing is read."""
    key = ["m", "float32", "dense"]
    key[place] = part
    with pytest.raises(BaselineError, match="expected a plain file name"):
        BaselineStore(tmp_path).path(*key)


DAMAGE: dict[str, tuple[str, Any, str]] = {
    "truncated JSON": ("json", lambda data: data[: len(data) // 2], "JSON: got bytes that do not read"),
    "empty JSON": ("json", lambda _: b"", "JSON: got bytes that do not read"),
    "binary JSON": ("json", lambda _: bytes(range(256)), "JSON: got bytes that do not read"),
    "a list": ("json", lambda _: b"[1, 2]", "schema: got None"),
    "no schema": ("json", lambda data: data.replace(b'"schema"', b'"scheme"'), "schema: got None"),
    "text schema": ("json", lambda data: data.replace(b'"schema": 1', b'"schema": "1"'), "schema: got '1'"),
    "true schema": ("json", lambda data: data.replace(b'"schema": 1', b'"schema": true'), "schema: got True"),
    "future schema": ("json", lambda data: data.replace(b'"schema": 1', b'"schema": 2'), "Upgrade pytest-kick"),
    "field gone": ("json", lambda data: data.replace(b'"timing"', b'"timings"'), "KeyError: 'timing'"),
    "field of another type": ("json", lambda data: data.replace(b'"steps": []', b'"steps": 3'), "TypeError"),
    "other model": ("json", lambda data: data.replace(b'"model": "m"', b'"model": "other"'), "model: got 'other', expected 'm'"),
    "other cell": ("json", lambda data: data.replace(b'"cell": "dense"', b'"cell": "x"'), "cell: got 'x', expected 'dense'"),
    "truncated npz": ("npz", lambda data: data[:-20], "sha256"),
    "binary npz": ("npz", lambda _: bytes(range(256)), "sha256"),
    "truncated examples": ("shared", lambda data: data[:-20], "npz: got bytes that do not read"),
    "other examples": ("shared", lambda _: None, "content: got bytes of another digest"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line(store: BaselineStore, damage: str) -> None:
    """Each damaged file is an error of one line that names the file; nothing is written, and another cell still reads."""
    kind, change, message = DAMAGE[damage]
    shared = next(store.root.glob("m/facts-*.npz"))
    path = {"json": store.root / "m/float32/dense.json", "npz": store.root / "m/float32/dense.npz", "shared": shared}[kind]
    data = change(path.read_bytes())
    if data is None:
        other = BaselineStore(store.root.parent / "other")
        other.write(make_measurement(RIGHT, start=5), "m")
        data = next(other.root.glob("m/facts-*.npz")).read_bytes()
    path.write_bytes(data)
    before = tree(store.root)
    with pytest.raises(BaselineError) as error:
        BaselineStore(store.root).read("m", "float32", "dense")
    assert message in one_line(error)
    assert path.name in one_line(error)
    assert tree(store.root) == before
    if kind != "shared":
        BaselineStore(store.root).read("m", "float32", L1.id)


def test_arrays_gone_is_an_error(store: BaselineStore) -> None:
    """A JSON without its npz is damaged, not missing: it is not recorded again silently."""
    (store.root / "m/float32/dense.npz").unlink()
    with pytest.raises(BaselineError, match="No such file") as error:
        store.read("m", "float32", "dense")
    assert not isinstance(error.value, MissingBaselineError)


def test_a_damaged_cell_can_be_recorded_again(store: BaselineStore) -> None:
    """`write` does not trip over what it replaces."""
    path = store.root / "m/float32/dense.json"
    path.write_bytes(b'{"schema": 1}')
    assert store.write(make_measurement(RIGHT), "m")
    assert BaselineStore(store.root).read("m", "float32", "dense").cell == "dense"


def test_the_file_of_another_model_is_refused(store: BaselineStore) -> None:
    """Files copied under another model's name say whose they are."""
    shutil.copytree(store.root / "m", store.root / "n")
    with pytest.raises(BaselineError, match="model: got 'm', expected 'n'"):
        store.read("n", "float32", "dense")


def test_nan_is_never_recorded(tmp_path: Path) -> None:
    """NaN among the scores or the metrics is refused, and leaves nothing behind."""
    store = BaselineStore(tmp_path)
    nan = make_examples(RIGHT, margin=np.full(40, np.nan, dtype=np.float32))
    with pytest.raises(BaselineError, match="margin: value: got NaN"):
        store.write(make_measurement(scores=(make_score(nan),)), "m")
    score = make_score(make_examples(RIGHT), metrics={"p1": float("nan")})
    with pytest.raises(BaselineError, match="expected finite numbers"):
        store.write(make_measurement(scores=(score,)), "m")
    assert tree(tmp_path) == {}


def test_scores_beyond_half_precision_are_kept_at_its_ends(tmp_path: Path) -> None:
    """A collapsed model's log-probability may be lower than half precision reaches: it stays finite."""
    far = np.linspace(-1e6, 1e6, 40, dtype=np.float32)
    BaselineStore(tmp_path).write(make_measurement(scores=(make_score(make_examples(RIGHT, margin=far)),)), "m")
    found = BaselineStore(tmp_path).read("m", "float32", "dense").examples["facts"].arrays["margin"]
    assert (found.min(), found.max()) == (-65504.0, 65504.0)


@pytest.mark.parametrize("failing", ["write", "replace"])
def test_a_full_or_read_only_disk_keeps_the_old_files(store: BaselineStore, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """A disk that fills while the files are staged, or that refuses them: one line, old bytes, no temporary file."""
    before = tree(store.root)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", refuse) if failing == "write" else (Path, "replace", refuse)))
    with pytest.raises(BaselineError, match="No space left on device") as error:
        store.write(make_measurement(~RIGHT), "m")
    one_line(error)
    assert tree(store.root) == before


def test_a_root_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    """A baselines directory that cannot be made is an error with its path."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(BaselineError, match="expected a place to write to"):
        BaselineStore(tmp_path / "file").write(make_measurement(RIGHT), "m")


def test_an_interrupted_write_is_noticed(store: BaselineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the arrays were replaced, the next read says so instead of judging against a mixture."""
    real = Path.replace

    def stop_at_json(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", stop_at_json)
    with pytest.raises(KeyboardInterrupt):
        store.write(make_measurement(~RIGHT), "m")
    assert not list(store.root.rglob(".*"))
    with pytest.raises(BaselineError, match="sha256"):
        store.read("m", "float32", "dense")


# Orphans


def test_orphans_are_files_nobody_expects(store: BaselineStore) -> None:
    """Cells that no suite names are listed with their arrays; examples are kept as long as a cell needs them."""
    dense, cell = ("m", "float32", "dense"), ("m", "float32", L1.id)
    assert store.orphans({dense, cell}) == []
    assert [path.name for path in store.orphans({dense})] == [f"{L1.id}.json", f"{L1.id}.npz"]
    assert len(store.orphans(set())) == 5
    store.write(make_measurement(RIGHT, start=3), "m")
    assert [path.name[:6] for path in store.orphans({dense})] == ["facts-", "l1_glo", "l1_glo"]
    assert BaselineStore(store.root / "nowhere").orphans({dense}) == []


# Fingerprints


def test_differences_name_nested_fields() -> None:
    """Dotted names, old and new value, fields that one side lacks; in the order of their names."""
    found = differences({"a": {"b": 1, "c": [1, 2]}, "z": "x"}, {"a": {"b": 2, "c": [1, 3]}, "y": True})
    assert [str(difference) for difference in found] == ["a.b: 1 -> 2", "a.c.1: 2 -> 3", "y: (none) -> true", "z: x -> (none)"]
    assert differences({"a": 1}, {"a": 1}) == ()


def test_defaults_are_part_of_the_fingerprint() -> None:
    """A parameter is written out with its default, so a default that changes in a later version blocks."""
    step = CompressionStep(method="random_unstructured", scope="ffn", level=0.2)
    blocking = build_fingerprint(
        weights="w", architecture="a", tokenizer="t", compression=CompressionSpec(steps=(step,)), scores=(), noted={}
    )["blocking"]
    assert blocking["compression"] == [{"method": "random_unstructured", "scope": "ffn", "level": 0.2, "params": {"seed": 0}}]


def test_the_digest_of_examples_has_no_order_but_has_the_content() -> None:
    """It changes with an id or a content hash, and not with the order."""
    examples = make_examples(RIGHT)
    assert examples_digest(examples) == examples_digest(examples.take(np.arange(40)[::-1]))
    changed = examples.hashes.copy()
    changed[3] += 1
    assert examples_digest(examples) != examples_digest(replace(examples, hashes=changed))


def stale(store: BaselineStore, measurement: Any, **kwargs: Any) -> str:
    """Return what `check_fresh` says of the dense baseline."""
    with pytest.raises(StaleBaselineError) as error:
        check_fresh(store.read("m", "float32", "dense"), measurement, **kwargs)
    return one_line(error)


def test_stale_names_field_old_and_new(store: BaselineStore) -> None:
    """Each blocking field is named with both values; hashes are shortened; the command that records it again stands at the end."""
    assert f"weights: {'a' * 12} -> {'c' * 12}." in stale(store, make_measurement(RIGHT, weights="c" * 64))
    assert stale(store, make_measurement(RIGHT, weights="c" * 64), command="pytest x --kick-update").endswith("pytest x --kick-update.")
    examples = make_examples(RIGHT)
    assert "facts.version: 1 -> 2." in stale(store, make_measurement(scores=(make_score(examples, version=2),)))
    longer = make_score(examples, settings={"norm": "bytes", "template": 0})
    assert "facts.settings.norm: sum -> bytes." in stale(store, make_measurement(scores=(longer,)))
    assert "facts.examples: " in stale(store, make_measurement(RIGHT, start=1))
    assert "dtype: float32 -> bfloat16" in stale(store, make_measurement(RIGHT, dtype="bfloat16"))
    check_fresh(store.read("m", "float32", "dense"), make_measurement(scores=(make_score(examples, probe="mmlu"),)))  # missing, not stale


def test_fresh_ignores_what_is_only_noted(store: BaselineStore) -> None:
    """Versions are noted: they are listed, and do not block. A compressed cell may be held against dense."""
    now = make_measurement(RIGHT, noted={"torch": "2.14.0"})
    baseline = store.read("m", "float32", "dense")
    check_fresh(baseline, now)
    assert [str(d) for d in baseline.noted_differences(now)] == ["torch: 2.13.0 -> 2.14.0"]
    check_fresh(baseline, make_measurement(RIGHT, compression=L1))
    with pytest.raises(BaselineError, match="expected 'dense' or 'dense'"):
        check_fresh(store.read("m", "float32", L1.id), now)


def test_a_changed_compression_parameter_blocks(store: BaselineStore) -> None:
    """The stored run of a cell is compared only with the same steps."""
    now = make_measurement(RIGHT, compression=L1)
    now.fingerprint["blocking"]["compression"][0]["params"]["sparsity_of"] = "model"
    with pytest.raises(StaleBaselineError, match=r"compression\.0\.params\.sparsity_of: scope -> model"):
        check_fresh(store.read("m", "float32", L1.id), now)


def test_a_probe_left_out_takes_no_other_with_it(tmp_path: Path) -> None:
    """Names that begin alike are told apart: `facts` does not excuse `facts.v2`, nor the dense model a probe `compression`."""
    store = BaselineStore(tmp_path)
    examples = make_examples(RIGHT)
    plain, longer = make_score(examples), make_score(examples, probe="facts.v2")
    store.write(make_measurement(scores=(plain, longer)), "m")
    check_fresh(store.read("m", "float32", "dense"), make_measurement(scores=(longer,)))
    assert "facts.v2.version: 1 -> 2." in stale(store, make_measurement(scores=(replace(longer, version=2),)))
    unlucky = make_score(examples, probe="compression")
    store.write(make_measurement(scores=(unlucky,)), "m")
    check_fresh(store.read("m", "float32", "dense"), make_measurement(scores=(unlucky,), compression=L1))
    changed = make_measurement(scores=(replace(unlucky, version=2),), compression=L1)
    assert "compression.version: 1 -> 2." in stale(store, changed)


def test_what_a_judge_did_not_rate_is_no_change(tmp_path: Path) -> None:
    """Where a judge scores, an example may be missing on either side; one that changed is found all the same."""
    store, whole = BaselineStore(tmp_path), make_examples(RIGHT)
    store.write(make_measurement(scores=(make_score(whole.take(np.arange(3, 38)), probe="instruction_following"),)), "m")
    baseline = store.read("m", "float32", "dense")
    now = whole.take(np.arange(36))
    check_fresh(baseline, make_measurement(scores=(make_score(now, probe="instruction_following"),)))
    hashes = now.hashes.copy()
    hashes[10] += 1
    changed = make_measurement(scores=(make_score(replace(now, hashes=hashes), probe="instruction_following"),))
    with pytest.raises(StaleBaselineError, match=r"instruction_following\.examples"):
        check_fresh(baseline, changed)


def test_scores_of_other_probes_stay(store: BaselineStore) -> None:
    """Recording one probe keeps those of others that stand, as long as the model is the same; another model takes them away."""
    before = store.read("m", "float32", "dense").examples["facts"]
    other = make_score(make_examples(~RIGHT), probe="lama:trex")
    assert store.lacking("m", "float32", "dense", ("facts", "lama:trex")) == ("lama:trex",)
    assert store.write(make_measurement(scores=(other,)), "m")
    both = store.read("m", "float32", "dense")
    assert both.examples.keys() == {"facts", "lama:trex"}
    assert np.array_equal(both.examples["facts"].outcome("p1"), before.outcome("p1"))
    assert not store.write(make_measurement(RIGHT), "m")
    assert store.lacking("m", "float32", "dense", ("facts", "lama:trex")) == ()
    store.write(make_measurement(scores=(other,), weights="c" * 64), "m")
    assert store.read("m", "float32", "dense").examples.keys() == {"lama:trex"}
    assert store.lacking("m", "float32", "never", ("facts",)) == ("facts",)


def test_a_sample_is_compared_example_by_example(store: BaselineStore) -> None:
    """With `sampled`, the ids of the sample must be stored with the same hashes; without it the digest differs."""
    whole = make_examples(RIGHT)
    sample = whole.take(np.array([30, 2, 7]))
    measurement = make_measurement(scores=(make_score(sample),))
    assert "facts.examples" in stale(store, measurement)
    check_fresh(store.read("m", "float32", "dense"), measurement, sampled=True)
    hashes = sample.hashes.copy()
    hashes[1] += 1
    changed = make_measurement(scores=(make_score(replace(sample, hashes=hashes)),))
    assert f"facts.examples.{sample.ids[1]}: " in stale(store, changed, sampled=True)
    other = make_measurement(scores=(make_score(make_examples(RIGHT, start=35)),))
    assert "facts.examples.g0/40: (none) -> sampled" in stale(store, other, sampled=True)
    check_fresh(store.read("m", "float32", "dense"), make_measurement(scores=(make_score(sample, probe="mmlu"),)), sampled=True)
    assert "weights" in stale(store, make_measurement(scores=(make_score(sample),), weights="c" * 64), sampled=True)


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    """A path that is no regular file is refused, and a link goes on pointing to what is written."""
    pipe, target, link = tmp_path / "pipe", tmp_path / "target", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(target)
    with pytest.raises(OSError, match="no regular file"):
        replace_all([(target, b"new"), (pipe, b"new")])
    assert pipe.is_fifo()
    assert not target.exists()
    replace_all([(link, b"new")])
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
