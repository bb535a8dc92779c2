"""A reference that the settings name for a new dark to be compared with: fetched, and held to the set."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.darkref.reference_history import STANDARD_DEVIATION, STANDARD_ERROR
from services.darkref.stored_dark import StoredDark
from shared.announced import Source, source_of
from shared.configuration import KEYWORDS, ConfigurationKey
from shared.errors import BadInput, BadMessage, EnvironmentFault, PermanentError
from shared.files import RangedFile
from shared.settings import StageSettings
from shared.sources import sha256_of

#: What has to be the same for two darks' pixels and groups to be comparable, by the key's own names.
_SAME = ("detector", "subarray", "readpatt", "nframes", "groupgap")
#: The same, where the file says it: many darks of earlier years do not.
_SAME_IF_SAID = ("substrt1", "substrt2", "noutputs")
_UNKNOWN = "of unknown meaning"
_CURE = "correct --compare-with (DARKS_PREVIOUS_REFERENCES)"


@dataclass(frozen=True)
class GivenReference:
    """A dark reference file that was given, on this machine's disk.

    Attributes
    ----------
    uri : str
    path : Path
    sha256 : str
        Of its bytes.
    errors : str
        What its ERR is, as far as it says so.
    """

    uri: str
    path: Path
    sha256: str
    errors: str


@contextmanager
def given_reference(
    key: ConfigurationKey, what: str, settings: StageSettings, scratch: Callable[[], Path]
) -> Iterator[GivenReference | None]:
    """Give the first of the references that the settings name which is one of a configuration.

    Parameters
    ----------
    key : ConfigurationKey
    what : str
        The set, for the error.
    settings : StageSettings
    scratch : callable
        Gives a folder for what has to be fetched; it goes with the context.

    Yields
    ------
    GivenReference or None
        None if the settings name none.

    Raises
    ------
    EnvironmentFault
        If one is not there, cannot be read, or is no dark reference file.
    PermanentError
        If none is of this configuration; says what each is of.
    """
    if not settings.previous_references:
        yield None
        return
    why_not = []
    for address in settings.previous_references:
        with ExitStack() as stack:
            source, path = _on_disk(address, settings, scratch, stack)
            difference, errors = _look_at(path, source.uri, key)
            if difference is None:
                yield GivenReference(source.uri, path, sha256_of(path), errors)
                return
            why_not.append(f"{source.name} has {difference}")
    raise PermanentError(
        f"{what}: none of the references that were given to compare with is of its configuration: "
        f"{'; '.join(why_not)}; give one more --compare-with (DARKS_PREVIOUS_REFERENCES) for it, or leave it "
        "away"
    )


def _on_disk(
    address: str, settings: StageSettings, scratch: Callable[[], Path], stack: ExitStack
) -> tuple[Source, Path]:
    # Who may announce exposures does not say what is compared; the settings' own word is enough.
    bucket = "/".join(address.split("/", 3)[:3])
    allowed = [bucket if address.startswith("s3://") else "file:///"]
    try:
        source = source_of(address, settings.model_copy(update={"allowed_sources": allowed}))
        return source, stack.enter_context(source.on_disk(scratch))
    except (BadInput, BadMessage) as error:
        raise EnvironmentFault(f"{address}: {error}; {_CURE}") from error


def _look_at(path: Path, uri: str, key: ConfigurationKey) -> tuple[str | None, str]:
    """Return what a file has else than a configuration, None for nothing; and what its ERR is."""
    try:
        with RangedFile(path) as reader, StoredDark(reader.read, reader.size) as dark:
            header, errors = dark.header, dark.errors
            shape, planes = dark.quality.shape, dark.shape
    except FileNotFoundError as error:
        raise EnvironmentFault(f"{uri}: there is no such file; {_CURE}") from error
    except (KeyError, OSError, ValueError, EOFError) as error:
        said = " ".join(str(error).split())
        raise EnvironmentFault(f"{uri} is no dark reference file: {said}; {_CURE}") from error
    if header.get("REFTYPE") != "DARK":
        raise EnvironmentFault(
            f"{uri} is no dark reference file: REFTYPE = {header.get('REFTYPE')!r}, not 'DARK'; {_CURE}"
        )
    difference = _difference(header, key)
    wanted = (key.subsize2, key.subsize1)
    if difference is None and {shape, planes} != {wanted}:
        difference = f"{planes} pixels (y, x) in SCI and {shape} in DQ, the exposures have {wanted}"
    return difference, errors if errors in (STANDARD_ERROR, STANDARD_DEVIATION) else _UNKNOWN


def _difference(header: Mapping[str, Any], key: ConfigurationKey) -> str | None:
    asked = (*_SAME, *(one for one in _SAME_IF_SAID if KEYWORDS[one] in header))
    for field in asked:
        keyword, wanted = KEYWORDS[field], getattr(key, field)
        said = header.get(keyword)
        said = said.strip() if isinstance(said, str) else said
        if said != wanted:
            return f"{keyword} = {said!r}, the exposures {wanted!r}"
    return None
