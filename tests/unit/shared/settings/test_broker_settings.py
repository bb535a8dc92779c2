"""The broker's settings: where it is, who asks, and no password in sight."""

from pathlib import Path

import pytest

from shared.errors import EnvironmentFault
from shared.settings.broker import BrokerSettings, broker_settings


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "vhost", "username", "password", "management"),
    [
        ("amqp://h", "amqp", "h", 5672, "/", "guest", "guest", "http://h:15672"),
        ("amqp://h/", "amqp", "h", 5672, "/", "guest", "guest", "http://h:15672"),
        ("amqps://u:p@h/v", "amqps", "h", 5671, "v", "u", "p", "https://h:15671"),
        ("amqp://u%40x:p%2F%3A@h:9/%2Fa%2Fb", "amqp", "h", 9, "/a/b", "u@x", "p/:", "http://h:15672"),
        ("amqp://u:p@[::1]:7/v", "amqp", "::1", 7, "v", "u", "p", "http://[::1]:15672"),
    ],
)
def test_a_url_is_read(url, scheme, host, port, vhost, username, password, management):
    settings = BrokerSettings(url=url)
    assert (settings.scheme, settings.host, settings.port, settings.vhost) == (scheme, host, port, vhost)
    assert (settings.username, settings.password()) == (username, password)
    assert settings.management == management


def test_user_and_password_may_come_from_elsewhere(tmp_path: Path, monkeypatch):
    file = tmp_path / "password"
    file.write_text("from the file\n")
    monkeypatch.setenv("DARKS_BROKER_URL", "amqp://nobody:nothing@h/v")
    monkeypatch.setenv("DARKS_BROKER_USER", "darks")
    monkeypatch.setenv("DARKS_BROKER_PASSWORD_FILE", str(file))
    settings = broker_settings()
    assert (settings.username, settings.password()) == ("darks", "from the file")
    file.write_text("changed")
    assert settings.password() == "changed"


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"url": "s3cr3t-pass"}, "DARKS_BROKER_URL"),
        ({"url": "http://u:s3cr3t-pass@h"}, "URL"),
        ({"url": "amqp://u:s3cr3t-pass/@h:x"}, "DARKS_BROKER_URL"),
        ({"url": "amqp://"}, "DARKS_BROKER_URL"),
        ({"management_url": "ftp://u:s3cr3t-pass@h"}, "DARKS_BROKER_MANAGEMENT_URL"),
        ({"nodes": ["u:s3cr3t-pass@h:1"]}, "DARKS_BROKER_NODES"),
        ({"nodes": ["amqp://h:1/v"]}, "DARKS_BROKER_NODES"),
        ({"nodes": ["h:x"]}, "DARKS_BROKER_NODES"),
        ({"cert_file": Path("c.pem")}, "DARKS_BROKER_KEY_FILE"),
        ({"heartbeat": 0}, "DARKS_BROKER_HEARTBEAT"),
        ({"publish_timeout": -1}, "DARKS_BROKER_PUBLISH_TIMEOUT"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line_and_not_quoted(given, setting):
    with pytest.raises(EnvironmentFault) as raised:
        broker_settings(**given)
    assert setting in str(raised.value)
    assert "s3cr3t-pass" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_representation_shows_the_password():
    settings = BrokerSettings(url="amqp://u:s3cr3t-pass@h", management_url="http://u:s3cr3t-pass@h:1")
    shown = repr(settings) + str(settings) + settings.model_dump_json() + settings.where + settings.management
    assert "s3cr3t-pass" not in shown


def test_the_nodes_of_a_cluster_share_all_but_their_address(monkeypatch):
    # Given a URL, and further nodes in the environment
    monkeypatch.setenv("DARKS_BROKER_NODES", '["two:7", "three", "[::1]:9"]')
    settings = broker_settings(url="amqps://u:s3cr3t-pass@one:5/v", management_url="https://m:p@api:1/x")
    # Then each has its own settings, the URL's node first
    nodes = settings.each_node()
    assert [node.where for node in nodes] == [
        "amqps://one:5",
        "amqps://two:7",
        "amqps://three:5671",
        "amqps://[::1]:9",
    ]
    assert {(node.username, node.password(), node.vhost) for node in nodes} == {("u", "s3cr3t-pass", "v")}
    assert [node.management for node in nodes] == [
        "https://api:1/x",
        "https://two:1/x",
        "https://three:1/x",
        "https://[::1]:1/x",
    ]
    assert "s3cr3t-pass" not in repr(nodes)


def test_nodes_that_are_no_json_are_named_in_one_line_and_not_quoted(monkeypatch):
    monkeypatch.setenv("DARKS_BROKER_NODES", "s3cr3t-pass@two:7")
    with pytest.raises(EnvironmentFault) as raised:
        broker_settings()
    assert raised.value.setting == "DARKS_BROKER_NODES"
    assert "s3cr3t-pass" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("what", "text"), [("no-such-file", None), ("bytes", b"\xff\xfe")])
def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path, what, text):
    file = tmp_path / what
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(EnvironmentFault) as raised:
        BrokerSettings(password_file=file).password()
    assert (raised.value.where, raised.value.setting) == (str(file), "DARKS_BROKER_PASSWORD_FILE")
