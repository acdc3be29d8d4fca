"""Options and their ini twins, declared from one table and read into one record."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_kick.errors import UsageError
from pytest_kick.instruments import default_threads, has_fast_bfloat16
from pytest_kick.noise import BATCH_SIZES
from pytest_kick.options import DEVICES, OPTIONS
from pytest_kick.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_kick.options import Option


_INI_TYPES: dict[type, Literal["string", "int", "float"]] = {str: "string", int: "int", float: "float"}
_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Hold every option's value, resolved: what the workers get is what the controller decided.

    Attributes are named as the options; `suites` are the suite directories, `n_workers` the xdist workers (1 without xdist).
    """

    rootdir: Path
    suites: tuple[str, ...]
    n_workers: int
    run_id: str
    suite: tuple[str, ...]
    model: tuple[str, ...]
    method: tuple[str, ...]
    level: tuple[str, ...]
    hub: bool
    update: bool
    update_new_only: bool
    noise: int
    missing: str
    inconclusive: str
    limit: int
    seed: int
    confidence: float
    dtype: str
    device: str
    threads: int
    batch_size: int
    cache: Path
    baselines: Path
    data: Path | None
    judge: tuple[str, ...]
    judge_repeats: int
    unsafe_code: bool
    json: Path | None
    offline: bool
    plan: bool
    allow_pickle: bool
    trust_remote_code: bool

    @property
    def updating(self) -> bool:
        """Return whether this run records."""
        return self.update or self.update_new_only

    @property
    def scratch(self) -> Path:
        """Return the directory for what need not survive: `.kick/` under the root."""
        return self.rootdir / ".kick"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict, for the workers and the run record."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        """Rebuild from `to_json`."""
        paths = {name: Path(data[name]) for name in ("rootdir", "cache", "baselines")}
        tuples = {name: tuple(data[name]) for name in ("suites", "suite", "model", "method", "level", "judge")}
        optional = {name: Path(data[name]) if data[name] else None for name in ("json", "data")}
        return cls(**{**data, **paths, **tuples, **optional})


def add_options(parser: pytest.Parser) -> None:
    """Declare all options and their ini twins."""
    group = parser.getgroup("kick", "what compressed language models still know")
    for option in OPTIONS:
        text = option.help
        if option.default is False:
            group.addoption(f"--kick-{option.name}", dest=option.dest, action="store_true", default=None, help=text)
            parser.addini(option.dest, help=text, type="bool", default=False)
            continue
        if option.values > 1:
            names = tuple((option.metavar or "").split())
            group.addoption(f"--kick-{option.name}", dest=option.dest, nargs=option.values, default=None, help=text, metavar=names)
            parser.addini(option.dest, help=text, type="args", default=[])
            continue
        repeats = isinstance(option.default, tuple)
        shown = "" if repeats or option.default in ("", 0) else f" (default: {option.default})"
        # argparse would refuse a wrong choice with its usage in many lines and no near match.
        metavar = f"{{{','.join(option.choices)}}}" if option.choices else option.metavar
        action = "append" if repeats else "store"
        group.addoption(f"--kick-{option.name}", dest=option.dest, action=action, default=None, help=text + shown, metavar=metavar)
        default = list(option.default) if repeats else option.default
        ini: Literal["args", "string", "int", "float"] = "args" if repeats else _INI_TYPES[option.kind]
        parser.addini(option.dest, help=text, type=ini, default=default)
    parser.addini("kick_suites", help="Directories of suites, relative to the root (default: suites).", type="args", default=[])


def read_settings(config: pytest.Config, run_id: str) -> Settings:
    """Read options and ini into one record, and decide what depends on the machine.

    Raises:
        UsageError: a value outside its range, or options that exclude each other.
    """
    values = {option.dest.removeprefix("kick_"): _value(config, option) for option in OPTIONS}
    n_workers = _count_workers(config)
    _check(values)
    if config.getoption("kick_judge_repeats") is not None and not values["judge"]:  # an ini may hold it for runs that name a judge
        msg = f"--kick-judge-repeats: value: got {values['judge_repeats']} without a judge, expected --kick-judge. Give both or none."
        raise UsageError(msg)
    root = config.rootpath
    if values["dtype"] == "auto":
        values["dtype"] = "bfloat16" if values["device"].partition(":")[0] != "cpu" or has_fast_bfloat16() else "float32"
    values["threads"] = values["threads"] or default_threads(n_workers)
    values["cache"] = cache_directory(values["cache"], root)
    values["baselines"] = root / values["baselines"]
    values["data"] = config.invocation_params.dir / values["data"] if values["data"] else None
    if values["data"] and not values["data"].is_dir():
        msg = f"--kick-data: directory: got {values['data']}, which is none, expected one laid out as docs/data.md says. Correct it."
        raise UsageError(msg)
    values["json"] = config.invocation_params.dir / values["json"] if values["json"] else None
    if values["json"]:
        _check_place(values["json"])
    return Settings(rootdir=root, suites=_suites(config), n_workers=n_workers, run_id=run_id, **values)


def cache_directory(option: str, root: Path) -> Path:
    """Return where models are kept: the option, else `KICK_CACHE`, else `.kick/cache` under `root`."""
    return root / (option or os.environ.get("KICK_CACHE") or ".kick/cache")


def _value(config: pytest.Config, option: Option) -> Any:  # noqa: ANN401 - as the option's default
    value = config.getoption(option.dest)
    given = value is not None
    where = f"--kick-{option.name}" if given else f"ini {option.dest}"
    value = value if given else _ini(config, option.dest)
    if option.default is False:
        return bool(value)
    if isinstance(option.default, tuple):
        if option.values > 1 and value and len(value) != option.values:
            msg = f"{where}: value: got {list(value)}, expected {option.metavar}. Correct it."
            raise UsageError(msg)
        return tuple(value)
    if option.choices and value not in option.choices:
        msg = f"{where}: value: got {value!r}, expected one of {', '.join(option.choices)}. {did_you_mean(value, option.choices)}"
        raise UsageError(msg)
    try:
        return option.kind(value)
    except ValueError:
        msg = f"{where}: value: got {value!r}, expected {_WANTED[option.kind]}. Correct it."
        raise UsageError(msg) from None


def _ini(config: pytest.Config, name: str) -> Any:  # noqa: ANN401 - as the option's default
    import pytest  # noqa: PLC0415 - it is there when an ini file is read; `kick` does without

    try:
        return config.getini(name)
    except (ValueError, TypeError, pytest.UsageError) as error:  # pytest's own words do not name the option
        expected = _WANTED[type({option.dest: option.default for option in OPTIONS}.get(name, ()))]
        msg = f"ini {name}: value: got what pytest cannot read ({' '.join(str(error).split())}), expected {expected}. Correct it."
        raise UsageError(msg) from None


def _suites(config: pytest.Config) -> tuple[str, ...]:
    """Return the directories of suites; one that the ini names has to be there, the default one need not."""
    named = tuple(_ini(config, "kick_suites"))
    for name in named:
        if not (config.rootpath / name).is_dir():
            got = f"{name!r}, which is none below {config.rootpath}"
            msg = f"ini kick_suites: directory: got {got}, expected a directory of suites. Correct it."
            raise UsageError(msg)
    return named or ("suites",)


def _check_place(path: Path) -> None:
    """Refuse a place that a file cannot be written to, before anything is measured; it may still be full at the end."""
    parent = next(folder for folder in path.parents if os.path.lexists(folder))
    got = "a directory" if path.is_dir() else "" if parent.is_dir() else f"{parent.name}, which is no directory"
    if not got and not os.access(parent, os.W_OK | os.X_OK):
        got = f"{parent}, which cannot be written to"
    if got:
        msg = f"--kick-json: path: got {got}, expected a file in a place to write to: {path}. Name another path."
        raise UsageError(msg)


def _count_workers(config: pytest.Config) -> int:
    if config.getoption("dist", "no") == "no" or not config.getoption("tx", None):
        return 1
    from xdist.workermanage import parse_tx_spec_config  # noqa: PLC0415 - there when its options are

    return len(parse_tx_spec_config(config))  # `4*popen` is four


def _check(values: Mapping[str, Any]) -> None:
    confidence = values["confidence"]
    if not math.isfinite(confidence) or not 0.5 < confidence < 1:  # noqa: PLR2004 - below one half nothing is claimed
        hint = " Write a fraction, such as 0.95." if confidence >= 1 else ""
        msg = f"--kick-confidence: value: got {confidence}, expected a fraction in (0.5, 1).{hint or ' Correct it.'}"
        raise UsageError(msg)
    for name in ("limit", "seed", "threads", "batch_size", "judge_repeats", "noise"):
        least = int(name == "judge_repeats")  # an answer that is never judged has no score
        if values[name] < least:
            msg = f"--kick-{name.replace('_', '-')}: value: got {values[name]}, expected {least} or more. Correct it."
            raise UsageError(msg)
    kind, colon, index = values["device"].partition(":")
    if kind not in DEVICES or (colon and not index.isdecimal()):
        expected = f"one of {', '.join(DEVICES)}, with `:N` for the N-th"
        msg = f"--kick-device: value: got {values['device']!r}, expected {expected}. {did_you_mean(kind, DEVICES)}"
        raise UsageError(msg)
    if values["limit"] and (values["update"] or values["update_new_only"]):
        msg = "--kick-update: value: got it with --kick-limit, expected all examples. Record without --kick-limit."
        raise UsageError(msg)
    most = len(BATCH_SIZES)
    if values["noise"] > most:
        msg = f"--kick-noise: value: got {values['noise']}, expected at most {most} repetitions. Correct it."
        raise UsageError(msg)
    if values["noise"] and not values["update"]:
        msg = "--kick-noise: value: got a run that records no dense model again, expected --kick-update, whose baseline keeps it. Add that."
        raise UsageError(msg)
    if values["update"] and values["update_new_only"]:
        msg = "--kick-update: value: got it with --kick-update-new-only, expected one of them. Leave one out."
        raise UsageError(msg)
