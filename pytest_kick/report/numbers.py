"""Numbers as reports print them. Data are never rounded: only what is printed is."""

from __future__ import annotations

NONE = "-"
_MANY, _TOO_MANY = 100, 100_000


def fraction(value: float | None) -> str:
    """Return three decimals without a leading zero: `.342`, `1.052`, `-.013`, none beyond 100: `8915`, `3.2e+07`; `-` for None."""
    if value is None:
        return NONE
    if abs(value) >= _MANY:
        return f"{value:.0f}" if abs(value) < _TOO_MANY else f"{value:.1e}"
    text = f"{value:.3f}"
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    text = sign + (digits[1:] if digits.startswith("0.") else digits)
    return ".000" if text == "-.000" else text


def interval(low: float | None, high: float | None) -> str:
    """Return `[.951, .993]`; an end that is not bounded is `-`."""
    return f"[{fraction(low)}, {fraction(high)}]"


def count(value: int) -> str:
    """Return a whole number with thousands separated: `2,612`."""
    return f"{value:,}"


def flow(lost: int, gained: int) -> str:
    """Return lost and gained in one word: `-15+41`."""
    return f"-{lost}+{gained}"


def seconds(value: float | None) -> str:
    """Return seconds in at most four characters up to 9,999: `.04`, `1.3`, `21`, `412`."""
    if value is None:
        return NONE
    if value < 1.0:
        text = f"{value:.2f}"
        return text[1:] if text.startswith("0") else "1.0"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"  # noqa: PLR2004 - 9.95 rounds to 10.0


def probability(value: float) -> str:
    """Return a p-value in two digits: `.031`, `3.0e-16`."""
    return fraction(value) if value >= 0.001 else f"{value:.1e}"  # noqa: PLR2004 - the last that three decimals show
