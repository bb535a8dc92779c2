"""What keeps exposures out of one set though a person may have meant them to form one, and the cure.

`run` and `announce` say it before any work from the headers, and the report from the ramps.
"""

from collections import defaultdict
from collections.abc import Iterable

from shared.nircam.configuration import ConfigurationKey
from shared.products.provenance import provenance_groups
from shared.products.ramp import RampMetadata


def odd_lengths(exposures: Iterable[tuple[ConfigurationKey | None, str]]) -> list[str]:
    """Return a sentence about each number of groups that only some exposures of a configuration have.

    Exposures that differ only in their number of groups form a set for each length, which may not be what a
    person meant: an exposure that lost its last group stands alone.

    Parameters
    ----------
    exposures : iterable of (ConfigurationKey or None, str)
        Configuration, None if it is not known, and file name of each exposure.

    Returns
    -------
    list of str
        The exposures of the rarer lengths, and how to make one set of all.
    """
    alike: dict[ConfigurationKey, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, name in exposures:
        if key is not None:
            alike[key.model_copy(update={"ngroups": 0})][key.ngroups].append(name)
    sentences = []
    for key, by_length in alike.items():
        usual, least = max(by_length, key=lambda ngroups: (len(by_length[ngroups]), ngroups)), min(by_length)
        for ngroups, names in sorted(by_length.items()):
            if ngroups != usual:
                sentences.append(
                    f"{_place(key)}: {_named(names)} with {ngroups} groups and {len(by_length[usual])} with "
                    f"{usual} form sets of their own; --truncate {least} (services: DARKS_TRUNCATE={least}) "
                    f"makes one set of the first {least} groups of all"
                )
    return sentences


def different_calibrations(ramps: Iterable[RampMetadata]) -> list[str]:
    """Return a sentence about each calibration that tells ramps of one configuration apart.

    Parameters
    ----------
    ramps : iterable of RampMetadata

    Returns
    -------
    list of str
        The ramps of each rarer calibration, with what they were calibrated, and how to make one set of all.
    """
    by_key: dict[ConfigurationKey, list[RampMetadata]] = defaultdict(list)
    for ramp in ramps:
        by_key[ramp.key].append(ramp)
    sentences = []
    for key, alike in by_key.items():
        groups = provenance_groups({ramp.exposure_id: ramp.provenance for ramp in alike})
        names: dict[str, list[str]] = defaultdict(list)
        for ramp in alike:
            names[groups[ramp.exposure_id]].append(ramp.file)
        usual = max(names, key=lambda group: (len(names[group]), group))
        for group, files in sorted(names.items()):
            if group != usual:
                sentences.append(
                    f"{_place(key)}: {_named(files)} calibrated with "
                    f"{group or 'what is installed here'}, and {len(names[usual])} with "
                    f"{usual or 'what is installed here'}, form sets of their own; the raw files (_uncal), "
                    "calibrated here, form one"
                )
    return sentences


def _place(key: ConfigurationKey) -> str:
    return f"{key.detector} {key.subarray} {key.readpatt}"


def _named(files: list[str]) -> str:
    return files[0] if len(files) == 1 else f"{len(files)} exposures ({files[0]}, ...)"
