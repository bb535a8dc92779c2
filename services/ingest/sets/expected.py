"""How many exposures were announced: what is noted of it with each exposure, and what counts."""

from collections.abc import Iterable


def notes_prefix(configuration: str = "") -> str:
    """Return the key prefix of the counts noted for a configuration, or for all of them."""
    return f"expected/{configuration}/" if configuration else "expected/"


def note_key(configuration: str, exposure_id: str, count: int) -> str:
    """Return the key under which it is noted that an exposure was announced as one of `count`.

    The count is in the key, so that nothing is ever overwritten and nobody has to read what he notes.
    """
    return f"{notes_prefix(configuration)}{exposure_id}/{count}.json"


def announced_counts(keys: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return by configuration and exposure the largest count noted; what is no note is passed over."""
    largest: dict[str, dict[str, int]] = {}
    for key in keys:
        place, _, name = key.removeprefix(notes_prefix()).rpartition("/")
        configuration, _, exposure = place.rpartition("/")
        said = name.removesuffix(".json")
        if configuration and exposure and said.isdecimal():
            counts = largest.setdefault(configuration, {})
            counts[exposure] = max(counts.get(exposure, 0), int(said))
    return largest
