"""The sentences that users rely on, each with what makes it: the one place where wording is tested.

Better words are put here and into the code together. Elsewhere tests check types and what an error carries
(`check`, `where`, `keyword`, `setting`). "FOLDER" stands for the test's own folder, "…" for what differs
from machine to machine.
"""

import errno
import math
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pika.exceptions
import pytest
from astropy.io import fits
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from nircam_darks.cli.cross_check import cross_check
from nircam_darks.cli.run import local_run
from nircam_darks.operations.announce import announce
from nircam_darks.operations.backfill_sources import open_source
from nircam_darks.operations.candidates import Candidate
from nircam_darks.operations.dead_letters import service_queues, written_letters
from nircam_darks.operations.reconcile import sweep_leftovers
from nircam_darks.simulation.plan import SimulationPlan, require_one_detector_each
from services.noise.effective.effective_noise import temporal_refusal
from services.noise.effective.emulate import emulation_refusal
from services.noise.effective.theory import theory_refusal
from services.noise.jumps.pixel_ramps import check_inside
from services.noise.memory_plan import plan_noise
from services.noise.planes import exposure_pixels
from services.noise.read_noise.ktc import ktc_refusal
from shared.broker.memory import MemoryBroker
from shared.broker.rabbitmq.connection import describe_connection_error
from shared.broker.rabbitmq.management import QueueState
from shared.catalog.exposure_sets import form_epochs, waiting_for
from shared.contracts.messages import ObjectRef, SetMember, parse
from shared.errors import DarksError
from shared.nircam.configuration import ConfigurationKey, require_same
from shared.ramps.ramp import Ramp
from shared.settings.broker import BrokerSettings, broker_settings
from shared.settings.service import ServiceSettings, read_settings, read_settings_file
from shared.settings.stage import S3Settings, StageSettings
from shared.statistics.verdicts import Value, compare
from shared.store.faults import disk_fault
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST, find
from shared.store.s3_client import make_client, s3_fault
from shared.store.sources import FileReader, source_of
from support.configurations import configuration

BROKER = BrokerSettings(url="amqp://u:secret@rabbit:5672/darks")
STAGE = StageSettings(store=Path("store"))
FULL_FRAME = configuration(2048, 2048, 20)

Make = Callable[[Path], object]


def raised(make: Make) -> Callable[[Path], str]:
    """Return what runs `make` and gives the sentence of the error that it raises."""

    def sentence(folder: Path) -> str:
        with pytest.raises(DarksError) as caught:
            make(folder)
        return str(caught.value)

    return sentence


def returned(make: Make) -> Callable[[Path], str]:
    """Return what runs `make` and gives what it returns, as a user reads it."""
    return lambda folder: str(make(folder))


class Bytes:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def disk(number: int) -> Callable[[Path], str]:
    return returned(lambda folder: disk_fault(OSError(number, os.strerror(number)), folder, 3 << 20))


def s3(error: ClientError | NoCredentialsError | EndpointConnectionError) -> Callable[[Path], str]:
    return returned(lambda _: s3_fault(error, "s3://darks/a"))


def s3_answered(code: str, status: int = 403) -> Callable[[Path], str]:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return s3(ClientError(answer, "PutObject"))


def broker(error: BaseException) -> Callable[[Path], str]:
    return returned(lambda _: describe_connection_error(error, BROKER))


def with_environment(kind: type, **variables: str) -> Callable[[Path], str]:
    def make(_: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            read_settings(kind)

    return raised(make)


def settings_file(text: str | None) -> Callable[[Path], str]:
    def make(folder: Path) -> None:
        if text is not None:
            (folder / "darks.env").write_text(text)
        read_settings_file({"DARKS_SETTINGS_FILE": str(folder / "darks.env")})

    return raised(make)


def damaged_manifest(folder: Path) -> None:
    store = LocalStore(folder)
    store.put(f"noise/c/s/k/{MANIFEST}", b'{"product": "set-noise", "pa')
    find(store, "noise/c/s/k")


def two_runs(folder: Path) -> None:
    with local_run._alone_in(folder), local_run._alone_in(folder):
        pass


def folder_for_a_file(folder: Path) -> None:
    (folder / "x.fits").mkdir()
    FileReader(folder / "x.fits")


def two_configurations(_: Path) -> None:
    require_same([("a.fits", configuration()), ("b.fits", configuration(readpatt="DEEP8"))])


def two_seeds(_: Path) -> None:
    require_one_detector_each([SimulationPlan("NRCA1", seed=1), SimulationPlan("NRCA1", seed=2)])


def member(name: str, start: float) -> SetMember:
    ramp = ObjectRef(key=f"k/{name}", size=1, sha256="00" * 32)
    return SetMember(
        exposure_id=name, manifest=name, ramp=ramp, integrations=1, start_mjd=start, end_mjd=start + 0.01
    )


def waits(expected: int | None, settled: bool) -> Callable[[Path], str]:
    counts = {} if expected is None else {"a": expected}
    epochs = form_epochs([member("a", 60000.0)], [], counts, 10.0)
    return returned(lambda _: waiting_for(epochs, settled, False, 2))


#: (name, what makes the sentence, the sentence)
SENTENCES: list[tuple[str, Callable[[Path], str], str]] = [
    # What an exposure's file lacks
    (
        "a keyword is missing",
        raised(lambda _: ConfigurationKey.from_header(fits.Header(), "x.fits")),
        (
            "x.fits: the primary header has no DETECTOR, which its configuration needs; fetch the "
            "file again from the archive, or add the keyword"
        ),
    ),
    (
        "a keyword is wrong",
        raised(lambda _: ConfigurationKey.from_header({"DETECTOR": 481}, "x.fits")),
        "x.fits: DETECTOR = 481 is not a valid value; correct the keyword",
    ),
    (
        "not FITS",
        raised(lambda _: Ramp(Bytes(b"hello " * 1000), "x.fits")),
        "x.fits: not a FITS file: it does not begin with SIMPLE; fetch it again",
    ),
    (
        "gzipped",
        raised(lambda _: Ramp(Bytes(b"\x1f\x8b\x08" + bytes(5000)), "x.fits")),
        ("x.fits: not a FITS file: it does not begin with SIMPLE; it is gzip-compressed: gunzip it"),
    ),
    (
        "cut off",
        raised(lambda _: Ramp(Bytes(b"SIMPLE  =                    T".ljust(2880)), "x.fits")),
        ("x.fits: truncated: the header at byte 0 has no END before byte 2880 of 2880; fetch it again"),
    ),
    (
        "no such file",
        raised(lambda folder: FileReader(folder / "x.fits")),
        "x.fits: no such file: FOLDER/x.fits; check the name, or announce it where it is",
    ),
    (
        "a folder for a file",
        raised(folder_for_a_file),
        "x.fits: is a folder, not a file: FOLDER/x.fits; announce FITS files",
    ),
    (
        "not an allowed source",
        raised(lambda _: source_of("s3://other/a.fits", STAGE)),
        (
            "s3://other/a.fits: exposures are not read from there (DARKS_ALLOWED_SOURCES: none); "
            "announce one that lies in an allowed place, or allow this one"
        ),
    ),
    (
        "another kind of address",
        raised(lambda _: source_of("gopher://h/a.fits", STAGE)),
        (
            "gopher://h/a.fits: addresses of the kind gopher://h are not supported; announce a path "
            "or file:// URI that the worker can read, or s3://bucket/key"
        ),
    ),
    (
        "a masked detector",
        raised(lambda _: exposure_pixels(configuration(8, 8), np.ones((8, 8), np.uint32), "x.fits")),
        (
            "x.fits: PIXELDQ marks every science pixel DO_NOT_USE, so there is no noise to measure; "
            "check the mask reference file that ingest used"
        ),
    ),
    (
        "a pixel outside",
        raised(lambda _: check_inside((20, 0), (10, 20), "x.fits")),
        (
            "x.fits: pixel (20, 0) is outside its 20 x 10 pixels; x runs from 0 to 19, y from 0 to "
            "9: correct the list of pixels to plot"
        ),
    ),
    # Sets
    (
        "nothing to combine",
        raised(lambda _: require_same([])),
        "no exposures were given to combine",
    ),
    (
        "two configurations",
        raised(two_configurations),
        (
            "READPATT differs: 'RAPID' in a.fits, 'DEEP8' in b.fits; exposures of different "
            "configurations are never combined"
        ),
    ),
    (
        "waits for more",
        waits(None, settled=False),
        "1 exposure ingested, 0 rejected; more may come",
    ),
    (
        "waits for the announced",
        waits(5, settled=False),
        "1 of 5 announced exposures ingested, 0 rejected; more may come",
    ),
    (
        "too few to combine",
        waits(None, settled=True),
        ("1 exposure ingested, 0 rejected; too few to combine: 1 integration from MJD 60000.00 (at least 2)"),
    ),
    (
        "needs more memory",
        raised(lambda _: plan_noise(FULL_FRAME, 10, 500 << 20, 200 << 20)),
        (
            "nrcalong_full_rapid_g20_dcc86a13: noise needs 989 MiB for 2048 x 2048 pixels, but may "
            "use 500 MiB: raise --max-memory (DARKS_MAX_MEMORY)"
        ),
    ),
    # Figures and their verdicts
    (
        "within",
        returned(lambda _: compare(Value(26.83, 0.41), Value(27.0, 5.0))),
        "within (26.83 ± 0.41, expected 27 ± 5)",
    ),
    (
        "above",
        returned(lambda _: compare(Value(15.9, 0.1), Value(13.25, 0.08))),
        "20.7 sigma above expected (15.90 ± 0.10, expected 13.25 ± 0.08)",
    ),
    (
        "not measured",
        returned(lambda _: compare(Value(math.nan, 0.1), Value(13.25, 0.08))),
        "not enough data",
    ),
    (
        "too few ramps",
        returned(lambda _: temporal_refusal(1)),
        (
            "temporal effective noise needs at least 10 ramps of one configuration, and this set has "
            "1 ramp; the spatial effective noise is measured"
        ),
    ),
    (
        "too few integrations for kTC",
        returned(lambda _: ktc_refusal(1)),
        ("kTC noise needs at least 3 integrations of one configuration, and this set has 1 integration"),
    ),
    (
        "too few points for the theory",
        returned(lambda _: theory_refusal(3)),
        (
            "the theory curve is not fitted: its two terms need at least 4 points, and this curve "
            "has 3 points: use ramps with more groups"
        ),
    ),
    (
        "an unknown pattern",
        returned(lambda _: emulation_refusal(FULL_FRAME, "SLOW")),
        (
            "unknown readout pattern 'SLOW'; choose from RAPID, BRIGHT1, BRIGHT2, SHALLOW2, "
            "SHALLOW4, MEDIUM2, MEDIUM8, DEEP2, DEEP8"
        ),
    ),
    (
        "too few groups to emulate",
        returned(lambda _: emulation_refusal(FULL_FRAME, "DEEP8")),
        (
            "DEEP8 is not emulated: 20 RAPID groups make 1 DEEP8 group, and a slope needs 2: use "
            "ramps with at least 28 groups"
        ),
    ),
    # Stores
    (
        "a full disk",
        disk(errno.ENOSPC),
        ("no space left on FOLDER: 3145728 bytes were needed, … bytes are free; make room and run again"),
    ),
    (
        "a failing disk",
        disk(errno.EIO),
        "the store on FOLDER failed at FOLDER: Input/output error; check the disk",
    ),
    (
        "no permission",
        disk(errno.EACCES),
        (
            "the store on FOLDER may not be used at FOLDER: Permission denied; give this user "
            "permission to it, or choose another folder"
        ),
    ),
    (
        "too large a file",
        disk(errno.EFBIG),
        (
            "the store on FOLDER may not take a file this large: File too large; raise `ulimit -f`, "
            "or choose a file system that takes larger files"
        ),
    ),
    (
        "a damaged manifest",
        raised(damaged_manifest),
        (
            "file://FOLDER/noise/c/s/k/manifest.json is not a manifest of this program: Invalid "
            "JSON: …; announce its exposure or set again, and the product is made anew"
        ),
    ),
    (
        "no such bucket",
        s3_answered("NoSuchBucket", 404),
        ("s3://darks/a: there is no such bucket; make it, or correct its name (S3 answered NoSuchBucket)"),
    ),
    (
        "a wrong secret key",
        s3_answered("SignatureDoesNotMatch"),
        (
            "s3://darks/a: the secret key is wrong; give this service valid credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile) (S3 answered "
            "SignatureDoesNotMatch)"
        ),
    ),
    (
        "an unknown access key",
        s3_answered("InvalidAccessKeyId"),
        (
            "s3://darks/a: the access key is not known; give this service valid credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile) (S3 answered "
            "InvalidAccessKeyId)"
        ),
    ),
    (
        "access denied",
        s3_answered("AccessDenied"),
        (
            "s3://darks/a: access is denied; let these credentials list, read, write and delete "
            "there (S3 answered AccessDenied)"
        ),
    ),
    (
        "a full bucket",
        s3_answered("QuotaExceeded"),
        "s3://darks/a: no space left (S3 answered QuotaExceeded); make room or raise the quota",
    ),
    (
        "a failing S3 server",
        s3_answered("InternalError", 500),
        (
            "s3://darks/a: PutObject failed, S3 answered 500 InternalError; if this stays so, look "
            "at the store's own logs"
        ),
    ),
    (
        "no credentials",
        s3(NoCredentialsError()),
        (
            "s3://darks/a: no credentials were found; give this service valid credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
        ),
    ),
    (
        "no S3 server",
        s3(EndpointConnectionError(endpoint_url="http://127.0.0.1:9")),
        "s3://darks/a: the store did not answer (…); check that it runs and can be reached",
    ),
    (
        "no file of authorities",
        raised(lambda _: make_client(S3Settings(ca=Path("none.pem")))),
        "DARKS_S3_CA names none.pem: there is no such file; correct it",
    ),
    # Brokers
    (
        "a wrong password",
        broker(pika.exceptions.ProbableAuthenticationError("x")),
        (
            "the broker at amqp://rabbit:5672 refuses user 'u': wrong password, or no rights in "
            "virtual host 'darks'; see DARKS_BROKER_URL and DARKS_BROKER_PASSWORD_FILE"
        ),
    ),
    (
        "no virtual host",
        broker(pika.exceptions.ProbableAccessDeniedError("x")),
        (
            "the broker at amqp://rabbit:5672 has no virtual host 'darks' for user 'u'; create it, "
            "or correct DARKS_BROKER_URL"
        ),
    ),
    (
        "no queue",
        broker(pika.exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue 'ingest'")),
        (
            "the broker at amqp://rabbit:5672 says NOT_FOUND - no queue 'ingest'; run `nircam-darks "
            "topology apply`"
        ),
    ),
    (
        "no TLS",
        broker(ssl.SSLError(1, "certificate verify failed")),
        (
            "no TLS with the broker at amqp://rabbit:5672: certificate verify failed; check "
            "DARKS_BROKER_CA_FILE and the host in DARKS_BROKER_URL"
        ),
    ),
    (
        "no broker",
        broker(ConnectionRefusedError(111, "Connection refused")),
        "the broker at amqp://rabbit:5672 cannot be reached: Connection refused",
    ),
    (
        "no password file",
        raised(lambda folder: BrokerSettings(password_file=folder / "p").password()),
        (
            "the broker's password cannot be read from FOLDER/p: No such file or directory; mount it "
            "there, or correct DARKS_BROKER_PASSWORD_FILE"
        ),
    ),
    (
        "a node that is none",
        raised(lambda _: broker_settings(nodes=["h:x"])),
        (
            'DARKS_BROKER_NODES: not a list of addresses such as ["rabbit-2:5672", "rabbit-3"]; no '
            "user, password or virtual host, which are the URL's; docs/settings.md lists all "
            "settings"
        ),
    ),
    # Messages
    (
        "not JSON",
        raised(lambda _: parse(b"{")),
        "the message is not JSON: …",
    ),
    (
        "no schema",
        raised(lambda _: parse(b"{}")),
        (
            "message None (None): unknown schema None; known: exposure.announced, exposure.ingested, "
            "exposure.rejected, set.ready, set.check, reference.built, noise.measured"
        ),
    ),
    (
        "another major version",
        raised(lambda _: parse(b'{"id": "i", "schema": "set.check", "version": "2.0"}')),
        (
            "message i (set.check): version '2.0' has another major version than 1.2; upgrade this "
            "service, then replay the message"
        ),
    ),
    # Settings
    (
        "a setting out of range",
        with_environment(ServiceSettings, DARKS_HTTP_PORT="70000"),
        (
            "Set DARKS_HTTP_PORT to a whole number from 0 to 65535, such as 8080; docs/settings.md "
            "lists all settings"
        ),
    ),
    (
        "a setting is missing",
        with_environment(StageSettings),
        (
            "Set DARKS_STORE to a results folder or an s3:// URL, such as s3://bucket/prefix; "
            "docs/settings.md lists all settings"
        ),
    ),
    (
        "no settings file",
        settings_file(None),
        (
            "FOLDER/darks.env cannot be read: No such file or directory; correct "
            "DARKS_SETTINGS_FILE, or unset it"
        ),
    ),
    (
        "an unknown setting",
        settings_file("DARKS_HTPP_PORT=80"),
        "FOLDER/darks.env: DARKS_HTPP_PORT is not a setting; docs/settings.md lists all settings",
    ),
    # Commands
    (
        "two runs at once",
        raised(two_runs),
        "another nircam-darks run is at work in FOLDER; wait for it, or choose another --out",
    ),
    (
        "a file to announce",
        raised(lambda folder: list(announce([Candidate(folder / "x.fits", "x")], MemoryBroker(), True, 1.0))),
        "FOLDER/x.fits: no such file; nothing was announced for it",
    ),
    (
        "a list for backfill",
        raised(lambda folder: open_source(None, folder / "list", None, STAGE)),
        "--list FOLDER/list: No such file or directory; give a file with one address per line",
    ),
    (
        "a sweep while services run",
        raised(lambda folder: sweep_leftovers(LocalStore(folder), [QueueState("noise", "service", 0, 0, 2)])),
        (
            "nothing was removed: queues have consumers (noise: 2), whose unfinished products would "
            "look like leftovers; stop the services first"
        ),
    ),
    (
        "no such queue",
        raised(lambda _: service_queues(["nonsense"])),
        "nonsense: no such queue; choose from ingest, darkref, noise",
    ),
    (
        "no letters to replay",
        raised(written_letters),
        "FOLDER holds no exported dead letters (*.json) to requeue",
    ),
    (
        "no reference to check",
        raised(lambda folder: cross_check(folder / "dark.fits")),
        "FOLDER/dark.fits: no such file; give the path in summary.json",
    ),
    (
        "an unknown detector",
        raised(lambda _: SimulationPlan("NRCC1")),
        (
            "unknown detector 'NRCC1'; choose one of NRCA1, NRCA2, NRCA3, NRCA4, NRCALONG, NRCB1, "
            "NRCB2, NRCB3, NRCB4, NRCBLONG"
        ),
    ),
    (
        "one detector, two seeds",
        raised(two_seeds),
        ("NRCA1 is requested with seeds 1 and 2; a detector has only one set of pixels, so give one seed"),
    ),
]


@pytest.mark.parametrize(("make", "sentence"), [pytest.param(*rest, id=name) for name, *rest in SENTENCES])
def test_reads(make: Callable[[Path], str], sentence: str, tmp_path: Path) -> None:
    output = make(tmp_path).replace(str(tmp_path), "FOLDER")
    pattern = ".+".join(map(re.escape, sentence.split("…")))
    assert re.fullmatch(pattern, output), f"{output!r} is not {sentence!r}"


def test_every_sentence_is_one_line_without_secrets() -> None:
    for name, _, sentence in SENTENCES:
        assert "\n" not in sentence, name
        assert "secret@" not in sentence, name
