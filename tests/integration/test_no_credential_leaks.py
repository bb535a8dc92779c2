"""After a service has met every kind of failure, no marked secret is anywhere that people look."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.messages import Envelope, ExposureAnnounced
from support.rabbitmq_node import RabbitNode
from support.service_process import AsProcess, Scrape, get, until

pytestmark = pytest.mark.xdist_group("rabbitmq")

PASSWORD = "MARKED-broker-password"
SECRET_KEY = "MARKED/secret+key"
SIGNATURE = "MARKEDsignature0123456789abcdef"
TOKEN = "MARKED-session-token"
SIGNED = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=MARKEDid%2Fus&X-Amz-Signature={SIGNATURE}"
ADDRESSES = (
    f"s3://raw/a_uncal.fits?{SIGNED}",
    f"https://raw.example/a_uncal.fits?{SIGNED}",
    f"https://user:{PASSWORD}@raw.example/a_uncal.fits",
    f"s3://user:{PASSWORD}@raw/a_uncal.fits",
    f"file:///nowhere/a_uncal.fits?token={TOKEN}",
    f"s3://raw/{'x' * 2000}?{SIGNED}",
)


@pytest.fixture
def broker(rabbit_node: RabbitNode) -> Iterator[RabbitBroker]:
    with rabbit_node.new_vhost() as vhost:
        rabbit_node.ctl("add_user", "marked", PASSWORD)
        rabbit_node.ctl("set_permissions", "--vhost", vhost, "marked", ".*", ".*", ".*")
        rabbit_node.ctl("set_user_tags", "marked", "administrator")
        try:
            url = f"amqp://marked:{PASSWORD}@127.0.0.1:{rabbit_node.port}/{vhost}"
            settings = rabbit_node.settings(vhost, url=url)
            apply(settings)
            with contextlib.closing(RabbitBroker(settings)) as broker:
                yield broker
        finally:
            rabbit_node.ctl("delete_user", "marked")


def test_no_secret_is_in_logs_metrics_dead_letters_messages_or_the_store(
    broker: RabbitBroker, tmp_path: Path
) -> None:
    # Given the real service with secrets of its own, and announcements that carry others
    for number, uri in enumerate(ADDRESSES):
        content = ExposureAnnounced(exposure_id=f"e{number}", uri=uri)
        broker.publish(Envelope.of(content, identity=uri))
    broker.publish_body("exposure.announced", f"not JSON, but password={PASSWORD}".encode())
    broker.publish_body("exposure.announced", json.dumps({"schema": f"x?{SIGNED}", "id": SIGNED}).encode())
    service = AsProcess(
        broker,
        tmp_path,
        *("-m", "services.ingest"),
        AWS_ACCESS_KEY_ID="MARKEDid",
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_SESSION_TOKEN=TOKEN,
        DARKS_ALLOWED_SOURCES=json.dumps(["s3://raw/", "file:///nowhere/"]),
        DARKS_S3_ENDPOINT="http://127.0.0.1:9",
        DARKS_S3_ATTEMPTS="1",
        DARKS_RETRY_DELAYS="[0.1]",
        DARKS_LOG_LEVEL="debug",
    )
    with service.ended():
        # When all of them have come to an end
        ended = len(ADDRESSES) + 2

        def ends() -> float:
            scrape = Scrape(service.port)
            name = "darks_messages_processed_total"
            return scrape(name, outcome="dead-lettered") + scrape(name, outcome="rejected")

        until(lambda: ends() >= ended)
        served = "".join(str(get(service.port, path)) for path in ("/live", "/ready", "/metrics"))
        service.stop()
    # Then none is in what the service said, told, or kept
    dead = broker.dead_letters("ingest")
    told = [part for letter in dead for part in (letter.reason, letter.evidence)]
    stored = [path.read_text(errors="replace") for path in (tmp_path / "store").rglob("*") if path.is_file()]
    said = service.log.read_text() + service.errors.read_text()
    assert dead
    for kind, text in {
        "logs": said,
        "http": served,
        "dead letters": "\n".join(told),
        "store": "\n".join(stored),
    }.items():
        lines = [line for line in text.splitlines() if "MARKED" in line]
        assert lines == [], kind
