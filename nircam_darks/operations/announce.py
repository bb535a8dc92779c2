"""Announce exposures to the services: files of this machine, or addresses."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from nircam_darks.operations.candidates import Candidate
from shared.broker.base import Broker
from shared.catalog.exposure_sets import split_at_gaps
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.errors import BadInput
from shared.nircam.exposure_id import exposure_id
from shared.store.sources import sha256_of


@dataclass(frozen=True)
class AnnouncedExposure:
    """An exposure whose announcement the broker has confirmed."""

    exposure_id: str
    uri: str
    message_id: str


def announce(
    candidates: Sequence[Candidate],
    broker: Broker,
    complete: bool,
    epoch_gap_days: float,
    uri_prefix: str | None = None,
) -> Iterator[AnnouncedExposure]:
    """Announce exposures with their size and sha256; yield each once the broker has confirmed it.

    Parameters
    ----------
    candidates : sequence of Candidate
    broker : Broker
    complete : bool
        These are the only exposures of their sets. Each announcement then says how many its set has, so
        that the set is ready as soon as the last of them has been ingested.
    epoch_gap_days : float
        As in the services' settings: a new set begins after more than this many days without an exposure.
    uri_prefix : str, optional
        Where the services find the files, such as ``s3://bucket/darks/``; by default at their paths here.
        Files of a folder keep their places in it.

    Raises
    ------
    BadInput
        If a file does not exist.
    PublishFailed
        If the broker did not confirm. Exposures yielded before are announced; announcing them again does no
        harm.
    """
    set_sizes = _set_sizes(candidates, epoch_gap_days) if complete else {}
    for candidate in candidates:
        if not candidate.path.is_file():
            raise BadInput(
                "file", f"{candidate.path}: no such file; nothing was announced for it", where=candidate.path
            )
        uri = candidate.uri if uri_prefix is None else uri_prefix + (candidate.place or candidate.path.name)
        digest = sha256_of(candidate.path)
        content = ExposureAnnounced(
            exposure_id=candidate.exposure_id,
            uri=uri,
            size=candidate.path.stat().st_size,
            sha256=digest,
            expected_exposures=set_sizes.get(candidate.exposure_id),
        )
        message = Envelope.of(content, identity=f"{uri}:{digest}")
        broker.publish(message)
        yield AnnouncedExposure(candidate.exposure_id, uri, str(message.id))


def announce_addresses(uris: Sequence[str], broker: Broker) -> Iterator[AnnouncedExposure]:
    """Announce exposures by address; yield each once the broker has confirmed it.

    Nothing is read here: the id of an exposure is the name of its object. Ingest tries an address without an
    object again, as the object may still be on its way, and then makes the message a dead letter.

    Parameters
    ----------
    uris : sequence of str
        Such as ``s3://bucket/darks/jw01062001001_02101_00001_nrca1_uncal.fits``.
    broker : Broker

    Raises
    ------
    PublishFailed
        If the broker did not confirm. Exposures yielded before are announced; announcing them again does no
        harm.
    """
    for uri in dict.fromkeys(uris):
        content = ExposureAnnounced(exposure_id=exposure_id(unquote(uri.partition("?")[0])), uri=uri)
        message = Envelope.of(content, identity=uri)
        broker.publish(message)
        yield AnnouncedExposure(content.exposure_id, uri, str(message.id))


def _set_sizes(candidates: Sequence[Candidate], epoch_gap_days: float) -> dict[str, int]:
    """Return the number of exposures in its set by exposure; exposures whose set is unknown are left out."""
    of_configuration: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.configuration is not None:
            of_configuration[candidate.configuration].append(candidate)
    sizes: dict[str, int] = {}
    for together in of_configuration.values():
        # Ingest rejects an exposure without a start time, and counts it as missing in every set.
        undated = {candidate.exposure_id for candidate in together if candidate.start_mjd is None}
        dated = [candidate for candidate in together if candidate.start_mjd is not None]
        for epoch in split_at_gaps(dated, _span, epoch_gap_days):
            ids = {candidate.exposure_id for candidate in epoch}
            sizes |= dict.fromkeys(ids, len(ids | undated))
    return sizes


def _span(candidate: Candidate) -> tuple[float, float]:
    start = candidate.start_mjd or 0.0
    return start, candidate.end_mjd if candidate.end_mjd is not None else start
