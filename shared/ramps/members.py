"""Opens the ramps of a set: what a message names is compared with the manifest, what is read with digests.

A message says where each ramp of a set lies, and its size and sha256. The manifest of the ramp says the same,
and is what counts: a message that names something else is refused. The digests (`shared.ramps.digests`) that
the manifest names let the ramp tell, as it is read, whether its bytes are still those that were written.
"""

import functools
import logging
from collections.abc import Sequence

from shared.contracts.messages import SetMember
from shared.errors import BadInput, BadMessage, DamagedObject, PermanentError
from shared.nircam.configuration import ConfigurationKey
from shared.products.ramp import RAMP
from shared.ramps.digests import DIGESTS, RampDigests
from shared.ramps.ramp import Ramp
from shared.store.base import ObjectReader, Store
from shared.store.manifest import MANIFEST, Manifest, find, read_object

_logger = logging.getLogger(__name__)


def open_member(
    store: Store, member: SetMember, key: ConfigurationKey, extensions: Sequence[str] = ("SCI", "GROUPDQ")
) -> Ramp:
    """Open the ramp of one exposure of a set, and check that it is the one that its manifest names.

    Parameters
    ----------
    store : Store
    member : SetMember
    key : ConfigurationKey
        Of the set.
    extensions : sequence of str, optional
        The extensions that will be read: 4-D (integrations, groups, y, x), except PIXELDQ, 2-D (y, x).

    Returns
    -------
    Ramp
        Whatever is read of it is checked, unless it was made before ramps had digests. Close it, or use it
        in a ``with``.

    Raises
    ------
    PermanentError
        If the ramp or its manifest is not in the store, or an extension has another shape than its
        configuration says.
    BadMessage
        If the manifest names another file, size or sha256 than the message.
    DamagedObject
        If the size, the digests or a header are not those that were written.
    BadInput
        If the file cannot be read as a ramp.
    """
    where = f"{member.exposure_id} ({member.ramp.key})"
    manifest = _manifest(store, member, where)
    digests = _digests(store, manifest, where)
    ramp = _open(store, member, where, digests)
    cube = (member.integrations, key.ngroups, key.subsize2, key.subsize1)
    for extension in extensions:
        expected = cube[2:] if extension == "PIXELDQ" else cube
        try:
            shape = ramp.shape(extension)
        except BadInput:
            ramp.close()
            raise
        if shape != expected:
            ramp.close()
            raise PermanentError(
                f"{where}: {extension} has shape {shape}, but NINTS, NGROUPS, SUBSIZE2, SUBSIZE1 say "
                f"{expected}; ingest the exposure again",
                where=member.ramp.key,
                keyword=extension,
            )
    return ramp


def _manifest(store: Store, member: SetMember, where: str) -> Manifest:
    manifest = find(store, member.manifest.removesuffix(f"/{MANIFEST}"))
    if manifest is None:
        raise PermanentError(
            f"{where}: its manifest {member.manifest} is not in the store; ingest the exposure again",
            where=member.manifest,
        )
    try:
        entry = manifest.object(RAMP)
    except KeyError as error:
        raise BadMessage(
            f"{where}: {member.manifest} is no manifest of a ramp; announce the exposure again",
            where=member.manifest,
        ) from error
    named = {"key": member.ramp.key, "size": member.ramp.size, "sha256": member.ramp.sha256}
    for field, value in named.items():
        recorded = getattr(entry, field)
        if recorded != value:
            raise BadMessage(
                f"{where}: the message says {field} {value}, the ramp's manifest says {recorded}; "
                "`nircam-darks reconcile` sends the message again as it should be",
                where=member.manifest,
                keyword=field,
            )
    return manifest


def _digests(store: Store, manifest: Manifest, where: str) -> RampDigests | None:
    """Return the digests of a ramp; None if it was made before ramps had any."""
    entry = next((each for each in manifest.objects if each.name == DIGESTS), None)
    if entry is None:
        _say_unchecked()
        return None
    try:
        return RampDigests.decode(read_object(store, entry))
    except ValueError as error:
        raise DamagedObject(f"{where}: {entry.key}: {error}", where=entry.key) from error


@functools.cache
def _say_unchecked() -> None:
    # Once a process: a campaign of earlier ramps has thousands.
    _logger.warning("a ramp was made before ramps had digests: it is read unchecked, as are others like it")


def _open(store: Store, member: SetMember, where: str, digests: RampDigests | None) -> Ramp:
    try:
        reader = store.open(member.ramp.key)
    except KeyError as error:
        raise PermanentError(
            f"{where}: the ramp is not in the store; ingest the exposure again", where=member.ramp.key
        ) from error
    try:
        return _ramp(reader, member, where, digests)
    except BaseException:
        reader.close()
        raise


def _ramp(reader: ObjectReader, member: SetMember, where: str, digests: RampDigests | None) -> Ramp:
    if reader.size != member.ramp.size:
        raise DamagedObject(
            f"{where}: the store has {reader.size} bytes, but {member.ramp.size} were written; remove the "
            "ramp's product and announce the exposure again",
            where=member.ramp.key,
        )
    try:
        return Ramp(reader, where, digests)
    except (BadInput, DamagedObject):
        if digests is None:
            raise
    # A header may have been damaged on the way.
    reader.forget()
    try:
        return Ramp(reader, where, digests)
    except BadInput as error:
        raise DamagedObject(str(error), where=member.ramp.key) from error
