"""Messages and jobs that do harm: each ends where an operator finds it, and the work around it goes on."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nircam_darks.operations.candidates import peek
from nircam_darks.simulation.simulate import environment
from shared.broker.base import DeadLetter
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.messages import LARGEST_BODY, Envelope, ExposureAnnounced, parse
from shared.contracts.routing import DELIVERY_LIMIT
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.handlers import ILLS, KEY, announcement, attempts, cure
from support.rabbitmq_node import RabbitNode
from support.running import command
from support.service_process import TESTED, AsProcess, Scrape, get

pytestmark = pytest.mark.xdist_group("rabbitmq")

#: Seconds that anything may take to come about.
WAIT = 240.0
JOB_SECONDS = 5


class Ward:
    """Ingest services on one broker and one store, what they counted, and what they gave up."""

    def __init__(self, node: RabbitNode, vhost: str, folder: Path) -> None:
        self.folder = folder
        self._settings = node.settings(vhost)
        apply(self._settings)
        self.broker = RabbitBroker(self._settings)
        self.store = LocalStore(folder / "store")
        self.services: list[AsProcess] = []

    def start(self, *program: str, **settings: str) -> AsProcess:
        folder = self.folder / f"service-{len(self.services)}"
        folder.mkdir()
        common = {"DARKS_STORE": str(self.folder / "store"), "DARKS_RETRY_DELAYS": "[0.05]"}
        service = AsProcess(self.broker, folder, *program, **{**common, **settings})
        self.services.append(service)
        return service

    def stop(self) -> None:
        for service in self.services:
            service.process.kill()
            service.process.wait()

    def counted(self, outcome: str) -> float:
        """How many messages ended so, by the metrics of those that run."""
        running = [service for service in self.services if service.process.poll() is None]
        return sum(Scrape(s.port)("darks_messages_processed_total", outcome=outcome) for s in running)

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WAIT
        while not condition():
            logs = [service.log.read_text()[-2000:] for service in self.services]
            assert time.monotonic() < deadline, "\n".join(["waited too long", *logs])
            assert any(service.process.poll() is None for service in self.services), "\n".join(logs)
            time.sleep(0.1)

    def require_at_work(self) -> None:
        for service in self.services:
            assert service.process.poll() is None
            assert get(service.port, "/live")[0] == 200
            assert get(service.port, "/ready")[0] == 200

    def dead(self) -> list[DeadLetter]:
        return self.broker.dead_letters("ingest")

    def darks(self, *arguments: str) -> str:
        url, management = self._settings.url, self._settings.management_url
        done = subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            timeout=120,
            env={
                **os.environ,
                "DARKS_BROKER_URL": url.get_secret_value(),
                "DARKS_BROKER_MANAGEMENT_URL": management.get_secret_value() if management else "",
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def ward(rabbit_node: RabbitNode, tmp_path: Path) -> Iterator[Ward]:
    with rabbit_node.new_vhost() as vhost:
        ward = Ward(rabbit_node, vhost, tmp_path)
        with contextlib.closing(ward.broker):
            try:
                yield ward
            finally:
                ward.stop()


def exposure_at(uri: str, exposure_id: str = "jw1_nrca1") -> bytes:
    return Envelope.of(ExposureAnnounced(exposure_id=exposure_id, uri=uri), identity=uri).encode()


def altered(**changes: Any) -> bytes:
    return json.dumps({**json.loads(exposure_at("file:///x.fits")), **changes}).encode()


def test_what_cannot_be_read_or_must_not_be_opened_is_given_up_at_once(
    ward: Ward, campaign, tmp_path: Path
) -> None:
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    inbox.mkdir()
    outside.mkdir()
    good, later = campaign.files[0], campaign.files[1]
    shutil.copy(good, inbox)
    shutil.copy(later, outside)
    (inbox / "text_uncal.fits").write_text("not FITS")
    (inbox / "link_uncal.fits").symlink_to("/etc/passwd")
    shutil.copy(later, tmp_path / "secret_uncal.fits")
    # Given bodies and addresses that nobody should send, each with a word that its reason must hold
    not_allowed = "exposures are not read from there"
    curable = exposure_at((outside / later.name).as_uri(), peek(later).exposure_id)
    poison = {
        b"not JSON": "not JSON",
        b"[" * 100_000: "not JSON",
        b"\xff\xfe\x00": "not JSON",
        altered(schema="exposure.deleted"): "unknown schema 'exposure.deleted'",
        altered(data={"exposure_id": "jw1_nrca1"}): "uri: Field required",
        altered(version="9.0"): "version '9.0' has another major",
        altered(more="x" * 10_000_000): f"at most {LARGEST_BODY} are",
        exposure_at("file:///etc/passwd"): not_allowed,
        exposure_at("/etc/passwd"): not_allowed,
        exposure_at((inbox / "link_uncal.fits").as_uri()): not_allowed,
        exposure_at(f"{inbox.as_uri()}/../secret_uncal.fits"): not_allowed,
        exposure_at(f"{inbox.as_uri()}/%2e%2e/secret_uncal.fits"): not_allowed,
        exposure_at("s3://somebody-elses/darks/x_uncal.fits"): not_allowed,
        exposure_at("s3://somebody-elses/../x_uncal.fits"): "s3://somebody-elses",
        exposure_at("http://169.254.169.254/latest/meta-data/"): "not supported",
        exposure_at("file://fileserver/darks/x_uncal.fits"): "not supported",
        exposure_at(f"{inbox.as_uri()}/{good.name}", exposure_id="../../jw1"): "exposure id",
        curable: not_allowed,
    }
    # And around them an exposure that is well, and a file that is none
    ward.broker.publish_body("exposure.announced", exposure_at((inbox / "text_uncal.fits").as_uri(), "text"))
    for body in poison:
        ward.broker.publish_body("exposure.announced", body)
    ward.broker.publish_body(
        "exposure.announced", exposure_at((inbox / good.name).as_uri(), peek(good).exposure_id)
    )
    # When the real ingest works through them
    settings = {
        **environment(campaign.crds_path),
        "DARKS_ALLOWED_SOURCES": json.dumps([inbox.as_uri()]),
    }
    service = ward.start("-m", "services.ingest", **settings)
    ward.until(lambda: ward.counted("finished") >= 1 and ward.counted("rejected") >= 1)
    # Then each has become a dead letter in one attempt, for its reason, as it came
    dead = {letter.body: letter for letter in ward.dead()}
    assert dead.keys() == poison.keys()
    for body, words in poison.items():
        assert words in dead[body].reason, body[:200]
        assert len(dead[body].reason) < 1000
        assert "\n" not in dead[body].reason
        assert dead[body].attempts == 1
    assert ward.counted("dead-lettered") == len(poison)
    assert ward.counted("retried") == 0
    ward.require_at_work()
    # And what is no FITS file is a rejection, the exposure a ramp, and no log grew with what was sent
    assert [m.results["exposure_id"] for m in find_all(ward.store, "") if m.product == "rejection"] == [
        "text"
    ]
    assert ramps(ward) == [peek(good).exposure_id]
    assert service.log.stat().st_size + service.errors.stat().st_size < 1_000_000

    # When the place of one is allowed, and all dead letters are put back to work
    service.stop()
    settings["DARKS_ALLOWED_SOURCES"] = json.dumps([inbox.as_uri(), outside.as_uri()])
    ward.start("-m", "services.ingest", **settings)
    ward.darks("dead-letters", "replay", "--all")
    # Then that one is worked on, and the others are back among the dead
    ward.until(lambda: ward.counted("finished") >= 1 and ward.counted("dead-lettered") == len(poison) - 1)
    assert ramps(ward) == sorted([peek(good).exposure_id, peek(later).exposure_id])
    assert {letter.body for letter in ward.dead()} == poison.keys() - {curable}


def ramps(ward: Ward) -> list[str]:
    return sorted(m.results["exposure_id"] for m in find_all(ward.store, "ingest/") if m.product == "ramp")


@pytest.mark.slow
def test_jobs_that_crash_hang_or_eat_memory_are_given_up_with_evidence(ward: Ward, tmp_path: Path) -> None:
    # Given jobs that always end badly, each in its way, and exposures that are well around them
    well = [f"well{n}" for n in range(len(ILLS) + 1)]
    names = dict(zip(ILLS, well, strict=False))
    for ill in ILLS:
        ward.broker.publish(announcement(names[ill]))
        ward.broker.publish(announcement(ill, f"ill={ill}"))
    ward.broker.publish(announcement(well[-1]))
    # When two services work through them
    limits = {"DARKS_JOB_SECONDS": str(JOB_SECONDS), "DARKS_JOB_MEMORY": str(400 << 20)}
    for _ in range(2):
        ward.start(*TESTED, **limits)
    ward.until(lambda: ward.counted("dead-lettered") == len(ILLS) and ward.counted("finished") == len(well))
    # Then each is a dead letter after its attempts, with what is known of the last one
    dead = {parse(letter.body).content.exposure_id: letter for letter in ward.dead()}
    assert dead.keys() == ILLS.keys()
    stack = "stack of each thread"
    expected = {
        "abort": ("signal 6 (SIGABRT)", "Fatal Python error: Aborted", "in handle"),
        "segfault": ("signal 11 (SIGSEGV)", "Fatal Python error: Segmentation fault", "in crash_in_c"),
        "killed": ("signal 9 (SIGKILL)", "none of our own limits was exceeded", "job: ingest"),
        "hang": (f"its time limit of {JOB_SECONDS} s", stack, "in wait_for_nothing"),
        "memory": (f"where {400 << 20} are allowed", stack, "in eat_memory"),
    }
    for ill, (reason, *evidence) in expected.items():
        letter = dead[ill]
        assert letter.attempts == attempts(tmp_path, ill) == DELIVERY_LIMIT
        assert f"given up after {DELIVERY_LIMIT} attempts: the ingest job of message" in letter.reason
        assert reason in letter.reason
        for words in (
            *evidence,
            f"attempt: {DELIVERY_LIMIT} of {DELIVERY_LIMIT}",
            "versions: nircam-darks ",
            ", python 3.",
            f"on {os.uname().nodename}",
        ):
            assert words in letter.evidence, letter.evidence
        assert "guest:guest" not in letter.evidence
    for ill in ("hang", "memory"):
        assert "progress at the end: 1 of 2 groups" in dead[ill].evidence
    assert stack not in dead["killed"].evidence
    peak = dead["memory"].evidence.partition("peak memory of its process: ")[2].partition(" MiB")[0]
    assert int(peak) >= 400
    # And each earlier attempt left its evidence in the log
    retried = [line for s in ward.services for line in s.lines if line.get("outcome") == "retried"]
    assert len([line for line in retried if "in crash_in_c" in line["evidence"]]) == DELIVERY_LIMIT - 1
    assert ward.counted("retried") == len(retried)
    # And the services are at work, and have done the rest
    ward.require_at_work()
    assert products(ward) == well

    # When the jobs are cured and put back to work, Then all is done, once
    cure(tmp_path).touch()
    ward.darks("dead-letters", "replay", "--all")
    ward.until(lambda: ward.counted("finished") == len(well) + len(ILLS))
    assert ward.dead() == []
    assert products(ward) == sorted([*well, *ILLS])


def products(ward: Ward) -> list[str]:
    return sorted(m.results["exposure_id"] for m in find_all(ward.store, f"ingest/{KEY.slug}/"))
