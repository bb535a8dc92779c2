"""What each user of the broker may do with the rights of deploy/rabbitmq/permissions.json, and what not."""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.connection import parameters
from shared.broker.rabbitmq.dead_letters import DeadLetterQueues
from shared.broker.rabbitmq.management import Management, queue_states
from shared.broker.rabbitmq.topology import Hold, apply, queues
from shared.broker.rabbitmq.wire import DELAY_EXCHANGE, RETURN_EXCHANGE
from shared.contracts.routing import BINDINGS, EXCHANGE, INFORMATIONAL
from shared.errors import EnvironmentFault
from support.least_rights import BROKER_USERS, USERS, BrokerUsers
from support.rabbitmq_node import VERSIONS

SERVICES = tuple(BINDINGS)
#: What each service says, by routing key; the rest is refused.
SAYS = {
    "ingest": {"exposure.announced", "exposure.ingested", "exposure.rejected", "set.ready", "set.check"},
    "darkref": {"reference.built"},
    "noise": {"noise.measured"},
    "trigger": {"exposure.announced"},
}
KEYS = {key for keys in BINDINGS.values() for key in keys} | INFORMATIONAL


@pytest.fixture(scope="module", params=VERSIONS)
def users(request, rabbit_nodes, tmp_path_factory) -> Iterator[BrokerUsers]:
    """The users on a broker whose topology was applied by the user who is there for it."""
    node = rabbit_nodes(request.param)
    here = BrokerUsers(node, f"least-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("passwords"))
    try:
        here.make()
        yield here
    finally:
        here.remove()


@contextlib.contextmanager
def channel_of(users: BrokerUsers, user: str) -> Iterator[Any]:
    with contextlib.closing(pika.BlockingConnection(parameters(users.settings(user), "test"))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def refused(users: BrokerUsers, user: str, act: Callable[[Any], Any]) -> bool:
    """Whether the broker refuses an act for want of a right."""
    with channel_of(users, user) as channel:
        try:
            act(channel)
        except ChannelClosedByBroker as error:
            if error.reply_code != 403:
                raise
            return True
    return False


def publishing(exchange: str, key: str) -> Callable[[Any], Any]:
    # Not mandatory, and to nobody: of no concern to whoever consumes.
    properties = pika.BasicProperties(expiration="1")
    return lambda channel: channel.basic_publish(exchange, key, b"{}", properties)


def test_topology_is_in_order_and_only_its_user_may_change_it(users: BrokerUsers) -> None:
    # Given a topology that its user applied; then there is nothing left to do for it
    assert apply(users.settings("topology")) == []
    # And no other may make, empty or remove a queue, or (but for operators, who drain) bind one
    for user in set(BROKER_USERS) - {"topology"}:
        assert refused(users, user, lambda channel: channel.queue_declare("mine")), user
        assert refused(users, user, lambda channel: channel.exchange_declare("mine")), user
        assert refused(users, user, lambda channel: channel.queue_delete("darkref")), user
        binds = not refused(users, user, lambda channel: channel.queue_bind("noise", EXCHANGE, "set.check"))
        assert binds == (user == "operator"), user
        with pytest.raises(EnvironmentFault):
            Management(users.settings(user)).put(
                "policies", users.vhost, "mine", body={"pattern": "x", "definition": {"max-length": 1}}
            )
    # And what an operator bound is mended by the topology's user
    assert [str(difference) for difference in apply(users.settings("topology"))] == [
        f"remove binding {EXCHANGE} --set.check--> noise"
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_takes_from_its_own_queue_only(users: BrokerUsers, service: str) -> None:
    # Given a service's user; then its own queue is open to it, and every other one is closed
    assert not refused(users, service, lambda channel: channel.basic_get(service))
    for other in set(queues()) - {service}:
        assert refused(users, service, lambda channel, queue=other: channel.basic_get(queue)), other
        assert refused(users, service, lambda channel, queue=other: channel.queue_purge(queue)), other


@pytest.mark.parametrize("user", SAYS)
def test_who_says_what(users: BrokerUsers, user: str) -> None:
    # Given a user who publishes; then only under the keys of what it has to say
    names = {key for key in KEYS if not refused(users, user, publishing(EXCHANGE, key))}
    assert names == SAYS[user]
    # And its retries wait for its own queue only
    delayed = {
        queue for queue in BINDINGS if not refused(users, user, publishing(DELAY_EXCHANGE, f"1.{queue}"))
    }
    assert delayed == {user} & set(SERVICES)
    # And nobody speaks for the broker's own return of what was delayed
    assert refused(users, user, publishing(RETURN_EXCHANGE, "1.ingest"))
    # And the archive reaches no queue past the exchange
    assert refused(users, user, publishing("", "darkref")) == (user == "trigger")


def test_trigger_and_monitor_read_no_message(users: BrokerUsers) -> None:
    for user in ("trigger", "monitor", "topology"):
        for queue in queues():
            assert refused(users, user, lambda channel, queue=queue: channel.basic_get(queue)), (user, queue)
    # And a monitor publishes nothing
    assert all(refused(users, "monitor", publishing(EXCHANGE, key)) for key in KEYS)


def test_a_monitor_reads_the_length_of_queues(users: BrokerUsers) -> None:
    # Given the management API, as KEDA asks it; then each queue is shown
    shown = Management(users.settings("monitor")).get("queues", users.vhost)
    assert {queue["name"] for queue in shown} == set(queues())
    # And the services' users are not let in there at all
    for service in SERVICES:
        with pytest.raises(EnvironmentFault):
            Management(users.settings(service)).get("queues", users.vhost)


def test_an_operator_reads_dead_letters_and_holds_announcements_but_takes_no_work(users: BrokerUsers) -> None:
    settings = users.settings("operator")
    # Given a message of each service that was given up
    for service in SERVICES:
        with contextlib.closing(RabbitBroker(users.settings(service))) as broker:
            with contextlib.closing(RabbitBroker(settings)) as by_hand:
                by_hand.publish_body(next(iter(BINDINGS[service])), b"{}")
            with contextlib.closing(broker.consume(service)) as consumer:
                consumer.dead_letter(consumer.poll(10.0), "it cannot be read")
    # When an operator looks
    with DeadLetterQueues(settings) as dead:
        for service in SERVICES:
            result = 0
            for letter in dead.letters(service):
                # Then it is there, and can be taken away
                dead.remove(letter)
                result += 1
            assert result, service
    # And announcements can be held, and let in again
    with Hold(settings) as hold:
        hold.hold()
        assert hold.release() == 0
    assert {state.name for state in queue_states(settings)} == set(queues())
    # But the services' messages are not the operator's
    for service in SERVICES:
        assert refused(users, "operator", lambda channel, queue=service: channel.basic_get(queue)), service


def test_a_password_is_changed_and_rights_are_set_right(users: BrokerUsers) -> None:
    # Given a user whose rights somebody widened
    api = Management(users.node.settings())
    api.put("permissions", users.vhost, "noise", body={"configure": ".*", "write": ".*", "read": ".*"})
    assert not refused(users, "noise", lambda channel: channel.basic_get("darkref"))
    # When its password is changed
    (users.folder / "broker-noise").write_text("another-password-of-the-user")
    done = users.apply("--user", "noise")
    # Then the new one is good, and its rights are those of the file
    assert (done.returncode, done.stdout.endswith(": noise\n")) == (0, True)
    assert refused(users, "noise", lambda channel: channel.basic_get("darkref"))
    assert not refused(users, "noise", lambda channel: channel.basic_get("noise"))


def test_nothing_is_changed_by_a_password_that_is_none(users: BrokerUsers, tmp_path) -> None:
    # Given a folder in which one password is too short and the others are missing
    (tmp_path / "broker-ingest").write_text("guest")
    here = BrokerUsers(users.node, users.vhost, tmp_path)
    # Then it is said which, and the password is not
    for words, said in (
        (("--user", "ingest"), "broker-ingest holds fewer than 16 characters"),
        (("--user", "noise"), "broker-noise cannot be read: No such file or directory"),
        (("--user", "guest"), "no user guest"),
    ):
        done = here.apply(*words)
        assert done.returncode == 2
        assert said in done.stderr


def test_without_the_topology_it_is_said_what_to_do_first(users: BrokerUsers) -> None:
    # Given a virtual host without our exchanges
    here = BrokerUsers(users.node, f"least-{uuid.uuid4().hex[:8]}", users.folder)
    try:
        done = here.apply()
        assert done.returncode == 2
        assert "has no exchange darks, darks.delay" in done.stderr
        assert "nircam-darks topology apply" in done.stderr
    finally:
        Management(users.node.settings()).delete("vhosts", here.vhost)


def test_every_user_of_the_file_is_looked_at_here() -> None:
    rights = json.loads(USERS.with_name("permissions.json").read_text())
    assert set(rights) == set(BROKER_USERS)
