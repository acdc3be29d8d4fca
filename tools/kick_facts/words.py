"""Facts about languages and chemical elements, from babel's CLDR data and periodictable."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

import periodictable
from babel import Locale
from babel.core import get_global

from tools.kick_facts import countries
from tools.kick_facts.rules import Row, choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEACHERS = choice("teachers")
LANGUAGES = choice("languages")
TONGUES = choice("tongues")

# CLDR's scripts in the plain word a reader knows, where several languages or a famous one use it.
SCRIPTS = {code: str(Locale("en").scripts[code]) for code in ("Arab", "Cyrl", "Deva", "Ethi", "Hebr", "Latn", "Tibt")}


@cache
def english() -> Locale:
    """Return the English locale."""
    return Locale("en")


def latin(text: str) -> bool:
    """Say whether a text is one word of Latin letters."""
    return text.isalpha() and all("LATIN" in unicodedata.name(char, "") for char in text)


def script() -> list[Row]:
    """Return language -> script."""
    rows = []
    for code in LANGUAGES:
        parts = get_global("likely_subtags").get(code, "").split("_")
        if len(parts) > 1 and parts[1] in SCRIPTS:
            rows.append(Row(subject=english().languages[code], answer=SCRIPTS[parts[1]]))
    return rows


def autonym() -> list[Row]:
    """Return language -> its name in itself, one word of Latin letters."""
    rows = []
    for code in TONGUES:
        own = Locale(code).languages.get(code, "")
        if latin(own):
            rows.append(Row(subject=english().languages[code], answer=own))
    return rows


def foreign(code: str, word: str, noun: str = "word") -> str:
    """Return how a foreign word stands in an English sentence."""
    return f"the {english().languages[code].removesuffix(' Bokmål')} {noun} {word}"


def weekday() -> list[Row]:
    """Return foreign word -> day of the week."""
    return translated(lambda locale: locale.days["stand-alone"]["wide"])


def month() -> list[Row]:
    """Return foreign word -> month."""
    return translated(lambda locale: locale.months["stand-alone"]["wide"])


def translated(words: Callable[[Locale], Mapping[int, str]]) -> list[Row]:
    """Return foreign word -> English word for a table of a locale."""
    meaning = words(english())
    return [
        Row(subject=foreign(code, word), answer=meaning[index], key=word)
        for code in TEACHERS
        for index, word in sorted(words(Locale(code)).items())
        if latin(word)
    ]


def foreign_country_name() -> list[Row]:
    """Return foreign name -> country, the most populous countries first."""
    return [
        Row(subject=foreign(lang, word, "name"), answer=countries.name(code), aliases=countries.aliases(code), key=word)
        for code in countries.codes()[:150]
        for lang in TEACHERS[:6]
        if latin(word := Locale(lang).territories.get(code, ""))
    ]


@cache
def elements() -> tuple[tuple[int, str, str], ...]:
    """Return atomic number, symbol and name of each element."""
    return tuple((e.number, e.symbol, e.name) for e in periodictable.elements if e.number > 0)


def element_symbol() -> list[Row]:
    """Return element -> symbol."""
    return [Row(subject=name, answer=symbol) for _, symbol, name in elements()]


def symbol_element() -> list[Row]:
    """Return symbol -> element."""
    other = {"aluminum": ("aluminium",), "cesium": ("caesium",), "sulfur": ("sulphur",)}
    return [Row(subject=symbol, answer=name, aliases=other.get(name, ())) for _, symbol, name in elements()]
