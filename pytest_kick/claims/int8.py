"""C3: int8 on attention against int8 on ffn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, UNDECIDED, number

if TYPE_CHECKING:
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel

METHOD = "dynamic_int8"
DTYPE = "float32"  # rounding to bfloat16 is as large as rounding to int8
BITS = 8
ARMS = (("equal scope", "ffn"), ("equal weights", "ffn_like_attention"))
MARGIN = 0.02


def attention_against_ffn(panel: Panel) -> list[Finding]:
    """Decide C3, in float32, the final layer in neither: int8 on attention hurts no more than int8 on ffn.

    The difference is the retention with int8 attention less that with int8 ffn. `no more` allows for a margin of 0.02: all that int8
    costs is a few hundredths, so the 0.05 that counts as equal elsewhere would let any outcome pass, while less than 0.02 (some 20
    facts of 2,600) could not be decided by the facts there are. `holds` where the lower bound lies above -0.02, `does not hold` where
    the upper bound lies below, else `undecided`.

    Two arms, each decided by itself: the whole ffn (`equal scope`), and the ffn of as many evenly spaced layers as add up to
    attention's count of weights (`equal weights`).
    """
    attention = panel.find(METHOD, "attention").get(BITS)
    if panel.dtype != DTYPE or attention is None:
        return []
    found = []
    for arm, scope in ARMS:
        other = panel.find(METHOD, scope).get(BITS)
        if other is None:
            continue
        if not panel.judgeable():
            found.append(panel.unjudged("C3", arm, 2))
            continue
        contrast = panel.contrast(attention, other)
        interval = contrast.interval(panel.confidence)
        word = HOLDS if interval.low > -MARGIN else DOES_NOT_HOLD if interval.high < -MARGIN else UNDECIDED
        detail = (
            f"attention retains {number(panel.retention(attention))}, {scope} {number(panel.retention(other))}"
            f"; {contrast.pair.lost + contrast.pair.gained} facts differ; margin {number(MARGIN)}"
        )
        found.append(panel.finding("C3", arm, word, detail, 2, (contrast.estimate, interval)))
    return found
