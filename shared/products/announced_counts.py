"""The number of exposures announced for a set: where it is noted, and which note counts.

An announcement may say how many exposures its set will have. Ingest notes the number under a key that names
the configuration, the exposure and the number itself, so that a note is never overwritten and listing the
keys is enough to read all of them.
"""

from collections.abc import Iterable


def notes_prefix(configuration: str = "") -> str:
    """Return the key prefix of the notes of a configuration, or of all configurations."""
    return f"expected/{configuration}/" if configuration else "expected/"


def note_key(configuration: str, exposure_id: str, count: int) -> str:
    """Return the key of the note that an exposure was announced as one of `count`."""
    return f"{notes_prefix(configuration)}{exposure_id}/{count}.json"


def announced_counts(keys: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return the largest number noted, by configuration and exposure.

    Parameters
    ----------
    keys : iterable of str
        Keys of the store; those that are not notes are ignored.

    Returns
    -------
    dict of str to dict of str to int

    Examples
    --------
    >>> announced_counts([note_key("nrca1_full", "jw1", 3), note_key("nrca1_full", "jw1", 5)])
    {'nrca1_full': {'jw1': 5}}
    """
    largest: dict[str, dict[str, int]] = {}
    for key in keys:
        folder, _, name = key.removeprefix(notes_prefix()).rpartition("/")
        configuration, _, exposure = folder.rpartition("/")
        number = name.removesuffix(".json")
        if configuration and exposure and number.isdecimal():
            counts = largest.setdefault(configuration, {})
            counts[exposure] = max(counts.get(exposure, 0), int(number))
    return largest
