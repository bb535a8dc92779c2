"""Announce exposures that lie in files, or at an address."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from services.schedule import Candidate
from shared.broker.base import Broker
from shared.errors import BadInput
from shared.exposure_sets import split_at_gaps
from shared.exposures import exposure_id
from shared.messages import Envelope, ExposureAnnounced
from shared.sources import sha256_of


@dataclass(frozen=True)
class Announced:
    """An exposure that the broker has confirmed."""

    exposure_id: str
    uri: str
    message_id: str


def announce(
    candidates: Sequence[Candidate],
    broker: Broker,
    complete: bool,
    epoch_gap_days: float,
    uri_prefix: str | None = None,
) -> Iterator[Announced]:
    """Announce exposures with their size and sha256; yield each once the broker has confirmed it.

    Parameters
    ----------
    candidates : sequence of Candidate
    broker : Broker
    complete : bool
        These are all exposures of their sets: each announcement says how many its set has, so that the
        set is ready with the last of them.
    epoch_gap_days : float
        As the services have it: where more than this passes without an exposure, another set begins.
    uri_prefix : str, optional
        Where the services find the files, such as ``s3://bucket/darks/``; by default where they lie here.

    Raises
    ------
    BadInput
        If a file is not there.
    PublishFailed
        If the broker did not confirm. What was yielded before is announced; announcing it again does no harm.
    """
    many = _counts(candidates, epoch_gap_days) if complete else {}
    for candidate in candidates:
        if not candidate.path.is_file():
            raise BadInput("file", f"{candidate.path}: no such file; nothing was announced for it")
        uri = candidate.uri if uri_prefix is None else uri_prefix + candidate.path.name
        digest = sha256_of(candidate.path)
        said = ExposureAnnounced(
            exposure_id=candidate.exposure_id,
            uri=uri,
            size=candidate.path.stat().st_size,
            sha256=digest,
            expected_exposures=many.get(candidate.exposure_id),
        )
        message = Envelope.of(said, identity=f"{uri}:{digest}")
        broker.publish(message)
        yield Announced(candidate.exposure_id, uri, str(message.id))


def announce_addresses(uris: Sequence[str], broker: Broker) -> Iterator[Announced]:
    """Announce exposures that only the services need see; yield each once the broker has confirmed it.

    Nothing is read: an exposure is called what its object is called, and of an address that leads nowhere
    ingest says so.

    Parameters
    ----------
    uris : sequence of str
        Such as ``s3://bucket/darks/jw01062001001_02101_00001_nrca1_uncal.fits``.
    broker : Broker

    Raises
    ------
    PublishFailed
        If the broker did not confirm. What was yielded before is announced; announcing it again does no harm.
    """
    for uri in dict.fromkeys(uris):
        said = ExposureAnnounced(exposure_id=exposure_id(unquote(uri.partition("?")[0])), uri=uri)
        message = Envelope.of(said, identity=uri)
        broker.publish(message)
        yield Announced(said.exposure_id, uri, str(message.id))


def _counts(candidates: Sequence[Candidate], epoch_gap_days: float) -> dict[str, int]:
    """Return by exposure how many its set has; an exposure of which that cannot be told is left out."""
    of_configuration: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.configuration is not None:
            of_configuration[candidate.configuration].append(candidate)
    many: dict[str, int] = {}
    for together in of_configuration.values():
        # Ingest refuses an exposure without a start, and takes it as missing in every set.
        undated = {one.exposure_id for one in together if one.start_mjd is None}
        dated = [one for one in together if one.start_mjd is not None]
        for epoch in split_at_gaps(dated, _span, epoch_gap_days):
            ids = {one.exposure_id for one in epoch}
            many |= dict.fromkeys(ids, len(ids | undated))
    return many


def _span(candidate: Candidate) -> tuple[float, float]:
    start = candidate.start_mjd or 0.0
    return start, candidate.end_mjd if candidate.end_mjd is not None else start
