"""The reference that a new dark replaces: which one it is, and what changes against it.

It is the newest one of this configuration in the store, unless the settings name others to compare with: then
the first of these that is of the configuration, fetched to this machine's disk.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.darkref.build_config import PreviousComparison, PreviousReference
from services.darkref.measure.bad_pixels import Thresholds
from services.darkref.measure.difference import Dark, compare_darks
from services.darkref.reference_file.history import STANDARD_DEVIATION, STANDARD_ERROR
from services.darkref.reference_file.reader import StoredDark
from shared.catalog.products import StoredProduct, walk
from shared.contracts.messages import SetMember, SetReady
from shared.errors import BadInput, BadMessage, EnvironmentFault, PermanentError
from shared.nircam.configuration import KEYWORDS, ConfigurationKey
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.reference import ReferenceResults
from shared.settings.stage import StageSettings
from shared.store.base import ObjectReader, Store
from shared.store.manifest import Manifest
from shared.store.ranged_file import RangedFile
from shared.store.sources import ExposureSource, NotThereYet, sha256_of, source_of

#: Fields of the key that must agree for the pixels and groups of two darks to be comparable.
_SAME = ("detector", "subarray", "readpatt", "nframes", "groupgap")
#: The same, where the file has the keyword: many older darks do not.
_SAME_IF_PRESENT = ("substrt1", "substrt2", "noutputs")
_UNKNOWN = "of unknown meaning"
_CURE = "correct --compare-with (DARKS_PREVIOUS_REFERENCES)"


@dataclass(frozen=True)
class GivenReference:
    """A dark reference file that the settings name, on this machine's disk.

    Attributes
    ----------
    uri : str
    path : Path
    sha256 : str
        Of the whole file.
    errors : str
        What its ERR is, as far as the file says so.
    """

    uri: str
    path: Path
    sha256: str
    errors: str


@contextmanager
def given_reference(
    key: ConfigurationKey, what: str, settings: StageSettings, scratch: Callable[[], Path]
) -> Iterator[GivenReference | None]:
    """Yield the first of the references in the settings that is of a configuration.

    Parameters
    ----------
    key : ConfigurationKey
    what : str
        The set, for the error.
    settings : StageSettings
    scratch : callable
        Returns a folder for files that have to be fetched; they are removed with the context.

    Yields
    ------
    GivenReference or None
        None if the settings name none.

    Raises
    ------
    EnvironmentFault
        If one is missing, cannot be read, or is no dark reference file.
    PermanentError
        If none is of this configuration; says how each differs.
    """
    if not settings.previous_references:
        yield None
        return
    why_not, refused = [], []
    for address in settings.previous_references:
        with ExitStack() as stack:
            source, path = _on_disk(address, settings, scratch, stack)
            difference, errors = _look_at(path, source.uri, key)
            if difference is None:
                yield GivenReference(source.uri, path, sha256_of(path), errors)
                return
            why_not.append(f"{source.name} has {difference}")
            refused.append(source.uri)
    raise PermanentError(
        f"{what}: none of the references that were given to compare with is of its configuration: "
        f"{'; '.join(why_not)}; give one more --compare-with (DARKS_PREVIOUS_REFERENCES) for it, or leave it "
        "out",
        where=", ".join(refused),
        setting="--compare-with",
    )


def _on_disk(
    address: str, settings: StageSettings, scratch: Callable[[], Path], stack: ExitStack
) -> tuple[ExposureSource, Path]:
    # Allowed sources restrict who may announce exposures; what the settings name needs no permission.
    bucket = "/".join(address.split("/", 3)[:3])
    allowed = [bucket if address.startswith("s3://") else "file:///"]
    try:
        source = source_of(address, settings.model_copy(update={"allowed_sources": allowed}))
        return source, stack.enter_context(source.on_disk(scratch))
    except (BadInput, BadMessage, NotThereYet) as error:
        raise EnvironmentFault(
            f"{address}: {error}; {_CURE}", where=address, setting="--compare-with"
        ) from error


def _look_at(path: Path, uri: str, key: ConfigurationKey) -> tuple[str | None, str]:
    """Return how a file differs from a configuration, None if it does not; and what its ERR is."""
    try:
        with RangedFile(path) as reader, StoredDark(reader.read, reader.size) as dark:
            header, errors = dark.header, dark.errors
            shape, planes = dark.quality.shape, dark.shape
    except FileNotFoundError as error:
        raise EnvironmentFault(
            f"{uri}: there is no such file; {_CURE}", where=uri, setting="--compare-with"
        ) from error
    except (KeyError, OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise EnvironmentFault(
            f"{uri} is no dark reference file: {reason}; {_CURE}", where=uri, setting="--compare-with"
        ) from error
    if header.get("REFTYPE") != "DARK":
        raise EnvironmentFault(
            f"{uri} is no dark reference file: REFTYPE = {header.get('REFTYPE')!r}, not 'DARK'; {_CURE}",
            where=uri,
            keyword="REFTYPE",
            setting="--compare-with",
        )
    difference = _difference(header, key)
    expected = (key.subsize2, key.subsize1)
    if difference is None and {shape, planes} != {expected}:
        difference = f"{planes} pixels (y, x) in SCI and {shape} in DQ, the exposures have {expected}"
    return difference, errors if errors in (STANDARD_ERROR, STANDARD_DEVIATION) else _UNKNOWN


def _difference(header: Mapping[str, Any], key: ConfigurationKey) -> str | None:
    compared = (*_SAME, *(field for field in _SAME_IF_PRESENT if KEYWORDS[field] in header))
    for field in compared:
        keyword, expected = KEYWORDS[field], getattr(key, field)
        value = header.get(keyword)
        value = value.strip() if isinstance(value, str) else value
        if value != expected:
            return f"{keyword} = {value!r}, the exposures {expected!r}"
    return None


def previous_reference(
    ready: SetReady, members: Sequence[SetMember], store: Store, given: GivenReference | None
) -> PreviousReference | None:
    """Return what the dark of a set replaces: the reference given, else one in the store, or None."""
    if given is not None:
        name = f"{given.path.name} (given, sha256 {given.sha256[:12]})"
        return PreviousReference(name, given.uri, given.errors, lambda: RangedFile(given.path))
    manifest = _newest_in_store(store, ready, members)
    if manifest is None:
        return None
    results = ReferenceResults.model_validate(manifest.results)
    entry = manifest.object(results.file)
    name = f"{results.file} of set {results.set_id} ({manifest.created:%Y-%m-%d})"

    def open_stored() -> ObjectReader:
        reader = store.open(entry.key)
        if reader.size != entry.size:
            reader.close()
            raise ValueError(f"it has {reader.size} bytes, but had {entry.size} when it was built")
        return reader

    return PreviousReference(name, entry.key, results.err_is, open_stored)


def read_and_compare(
    previous: PreviousReference, new: Dark, ready: SetReady, thresholds: Thresholds
) -> PreviousComparison:
    """Compare a new dark with the reference that it replaces.

    Parameters
    ----------
    previous : PreviousReference
    new : Dark
    ready : SetReady
    thresholds : Thresholds
        To find hot pixels in an earlier file that flags none.

    Returns
    -------
    PreviousComparison
        Without a difference where the earlier file cannot be read.
    """
    key = ready.key
    try:
        with ExitStack() as stack:
            reader = stack.enter_context(previous.open())
            stored = stack.enter_context(StoredDark(reader.read, reader.size))
            earlier = Dark(
                previous.name, stored.sci, stored.err, stored.groups, stored.quality, previous.errors
            )
            difference = compare_darks(
                new, earlier, science_pixels(key), amplifiers(key), ready.gain, key.group_time, thresholds
            )
    except (KeyError, OSError, ValueError) as error:
        # That somebody removed or changed the earlier file is no reason to have no new one.
        return PreviousComparison(previous.name, previous.where, None, " ".join(str(error).split()))
    return PreviousComparison(previous.name, previous.where, difference, None)


def _newest_in_store(store: Store, ready: SetReady, members: Sequence[SetMember]) -> Manifest | None:
    """Return the reference of this configuration that a new one replaces; None if there is none.

    It must be neither held nor rejected, and be built from some of the set's own exposures only, or from
    integrations that all started before the set does. Of several, it is the one with the newest exposures,
    then the one with the most, then the one that was built last.
    """
    exposures = {member.exposure_id for member in members}

    def age(product: StoredProduct[ReferenceResults]) -> tuple[float, int, datetime]:
        newest = max(product.results.integration_mjd, default=-math.inf)
        return newest, len(product.exposures), product.manifest.created

    candidates = [
        product
        for product in walk(store, f"darkref/{ready.configuration}/", kind=ReferenceResults)
        if not product.is_withheld
        and (product.exposures <= exposures or age(product)[0] < members[0].start_mjd)
    ]
    newest = max(candidates, key=age, default=None)
    return None if newest is None else newest.manifest
