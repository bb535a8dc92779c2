"""Announce exposures that lie in files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.schedule import Candidate
from shared.broker.base import Broker
from shared.errors import BadInput
from shared.messages import Envelope, ExposureAnnounced
from shared.sources import sha256_of


@dataclass(frozen=True)
class Announced:
    """An exposure that the broker has confirmed."""

    exposure_id: str
    uri: str
    message_id: str


def announce(
    candidates: Sequence[Candidate], broker: Broker, complete: bool, uri_prefix: str | None = None
) -> Iterator[Announced]:
    """Announce exposures with their size and sha256; yield each once the broker has confirmed it.

    Parameters
    ----------
    candidates : sequence of Candidate
    broker : Broker
    complete : bool
        These are all exposures of their configurations: each announcement says how many there are, so
        that a set is ready with the last of them.
    uri_prefix : str, optional
        Where the services find the files, such as ``s3://bucket/darks/``; by default where they lie here.

    Raises
    ------
    BadInput
        If a file is not there.
    PublishFailed
        If the broker did not confirm. What was yielded before is announced; announcing it again does no harm.
    """
    many = Counter(candidate.configuration for candidate in candidates)
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
            expected_exposures=many[candidate.configuration]
            if complete and candidate.configuration is not None
            else None,
        )
        message = Envelope.of(said, identity=f"{uri}:{digest}")
        broker.publish(message)
        yield Announced(candidate.exposure_id, uri, str(message.id))
