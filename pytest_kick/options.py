"""The table of options: names, defaults, help.

Every option `--kick-NAME` has an ini twin `kick_NAME`; the command line wins over ini, ini over the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_kick.spec import DTYPES


@dataclass(frozen=True, slots=True)
class Option:
    """Describe one option; positional, since the table below reads better so.

    Attributes:
        name: without `--kick-`, with dashes.
        default: its value where neither command line nor ini names one; a tuple for an option that may repeat, False for a flag.
        help: for `--help`.
        choices: a closed set of values.
        metavar: for `--help`.
        kind: `str`, `int` or `float`.
        values: how many it takes at once; `metavar` names each.
    """

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    kind: type = str
    values: int = 1

    @property
    def dest(self) -> str:
        """Return the attribute's and the ini key's name."""
        return "kick_" + self.name.replace("-", "_")


FLAG = False
DEVICES = ("cpu", "cuda", "mps", "xpu")

OPTIONS = (
    Option("suite", (), "Run the suites whose name matches this glob, default ones or not (repeatable).", metavar="GLOB"),
    Option("model", (), "Run only cells of models whose name matches (repeatable).", metavar="GLOB"),
    Option(
        "method",
        (),
        "Run only cells with a step whose method matches (repeatable), and dense cells; dense: those alone.",
        metavar="GLOB",
    ),
    Option("level", (), "Run only cells with a step of this level: 0.2, b8 or a glob (repeatable); the dense cells stay.", metavar="GLOB"),
    Option("hub", FLAG, "Also run the suites whose models come from the hub."),
    Option("update", FLAG, "Record what was measured as the new stored run and dense baseline. FORGOT stays red."),
    Option("update-new-only", FLAG, "Record only what has no stored run yet."),
    Option("noise", 0, "With --kick-update: ask dense models N times again, and store how far chance moves them.", metavar="N", kind=int),
    Option("missing", "fail", "What to do where a stored run is missing.", choices=("fail", "skip", "warn")),
    Option("inconclusive", "fail", "How an INCONCLUSIVE verdict ends the test.", choices=("fail", "warn", "xfail")),
    Option("limit", 0, "Measure a seeded sample of N examples, stratified by relation; 0 for all.", metavar="N", kind=int),
    Option("seed", 0, "Seed of that sample.", metavar="N", kind=int),
    Option("confidence", 0.95, "Confidence of each one-sided bound.", metavar="P", kind=float),
    Option("dtype", "auto", "Dtype of the forward pass; auto: bfloat16 where the device computes in it.", choices=("auto", *DTYPES)),
    Option("device", "cpu", "Device of the forward pass, such as cpu or cuda:0.", metavar="DEVICE"),
    Option("threads", 0, "torch threads per worker; 0: cores // workers, or OMP_NUM_THREADS.", metavar="N", kind=int),
    Option("batch-size", 0, "Examples per forward pass; 0: chosen from the model.", metavar="N", kind=int),
    Option("cache", "", "Where fetched and converted models are kept (default: KICK_CACHE, or .kick/cache).", metavar="DIR"),
    Option("baselines", "baselines", "Where dense baselines and stored runs are kept; commit it.", metavar="DIR"),
    Option("data", "", "Directory of data sets, laid out as docs/data.md says; suites that need them run then.", metavar="DIR"),
    Option("judge", (), "Judge of generated answers: an OpenAI-compatible endpoint and its model.", metavar="URL MODEL", values=2),
    Option("judge-repeats", 1, "Judge the same answers so many times, to measure the judge's noise.", metavar="K", kind=int),
    Option("unsafe-code", FLAG, "Run evaluation tasks that execute what a model wrote. Only in a sandbox."),
    Option("json", "", "Write the whole run to this file.", metavar="PATH"),
    Option("offline", FLAG, "Never use the network."),
    Option("plan", FLAG, "Show what would run, what it could detect and how long it may take; load no model."),
    Option("allow-pickle", FLAG, "Load pickle checkpoints too. They can run code: only from whom you trust."),
    Option("trust-remote-code", FLAG, "Run code that a model's repository brings. Only from whom you trust."),
)
