"""What is found about a claim on one model, and the words for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
UNDECIDED = "undecided"
NOT_APPLICABLE = "not applicable"

STATEMENTS = {
    "C1": "pruning everything hurts at least as much as pruning attention or ffn alone",
    "C2": "knowledge falls off a cliff above sparsity 0.5, not before",
    "C3": "int8 on attention hurts no more than int8 on ffn",
    "C4": "pruning rows of the final layer hurts far more than pruning single weights",
    "C5": "int8 on top of pruning changes nothing",
    "C6": "where perplexity is a tenth above dense, knowledge is already lost",
    "C7": "magnitude pruning, wanda and sparsegpt are alike up to 0.3; magnitude collapses by 0.5",
    "C8": "every N:M of half the weights is worse than half the weights anywhere",
    "C9": "eight bits stay near the dense model",
    "C10": "what stands in the text is lost less than what has to be known",
    "C11": "a large model pruned to the size of a small one is no better than the small one",
    "C12": "longer texts lose more than shorter ones",
    "C13": "where the score is not shown to change, answers flip",
    "C14": "answers flip where the dense model's margin is small",
    "C15": "pruning a tenth of the norm weights is a catastrophe",
    "C16": "attention takes more pruning than ffn",
    "C17": "the calibration seed's spread bounds any ranking of methods",
    "C18": "facts lost to compression come back in part after a few others of their relation",
    "C19": "knowledge is lost more than reasoning and common sense",
    "C20": "dropping heads, neurons or blocks hurts more than as many single weights",
    "C21": "the order of pruning and quantizing does not matter",
    "C22": "a recipe made for the model keeps more than the same level everywhere, at equal size",
    "C23": "16, 8 and 4 bits keep .95 of what is known",
    "C25": "pruning loses against quantization at equal bytes, loses at 25-30%, and with every N:M",
}
PLACES = ("C2", "C16")
"""Claims about places on the grid, in sparsity; the others are about retention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Hold what one model shows about one claim; every field is JSON-able.

    Attributes:
        claim: a key of `STATEMENTS`.
        model: name of the model.
        family: its family.
        dtype: of the forward pass of the cells used.
        arm: which comparison of the claim; "" where it has one only.
        statement: the claim in plain words.
        word: `holds`, `does not hold`, `undecided` or `not applicable`.
        estimate: of what decides, in `unit`; None where nothing was estimated.
        low: lower bound at the confidence asked for; None where there is none.
        high: upper bound likewise.
        unit: `retention` (a difference of retentions) or `sparsity` (a place on the grid).
        detail: one line: levels used and numbers.
        n: examples compared.
        n_cells: compressed cells used.
    """

    claim: str
    model: str
    family: str
    dtype: str
    arm: str = ""
    statement: str
    word: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str
    detail: str
    n: int
    n_cells: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return asdict(self)


def number(value: float) -> str:
    """Return three decimals without a leading zero: `.342`, `-.013`; a bound beyond every level is `beyond`."""
    if value == float("inf"):
        return "beyond"
    text = f"{value:.3f}"
    text = "0.000" if text == "-0.000" else text
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def spelled(low: float, high: float) -> str:
    """Return an interval: `[.312, .345]`."""
    return f"[{number(low)}, {number(high)}]"


def grid(levels: list[float]) -> str:
    """Return levels as a detail names them: `0.1, 0.2`, or `0.1 to 0.9 (9 levels)` for more than three."""
    shown = [f"{level:g}" for level in levels]
    return ", ".join(shown) if len(shown) <= 3 else f"{shown[0]} to {shown[-1]} ({len(shown)} levels)"  # noqa: PLR2004 - three fit
