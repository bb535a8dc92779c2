"""Make RabbitMQ's users, with the rights of permissions.json and the passwords that lie in files.

    python users.py PASSWORDS_FOLDER [--user NAME]...

DARKS_BROKER_URL, DARKS_BROKER_USER and DARKS_BROKER_PASSWORD_FILE are those of an administrator; the virtual
host is made if it is not there. PASSWORDS_FOLDER has a file ``broker-<user>`` for each user. Everything may
be done again: so a password is changed, and rights that somebody widened by hand become narrow again.

On a broker that is new: `users.py PASSWORDS_FOLDER --user topology`, `nircam-darks topology apply` as that
user, then `users.py PASSWORDS_FOLDER`. RabbitMQ 4.3 gives no rights to keys of an exchange that is not there.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.settings import BrokerSettings, broker_settings
from shared.errors import DarksError, EnvironmentFault

PERMISSIONS = Path(__file__).with_name("permissions.json")
_NOTHING = "^$"
#: A password that somebody left as it was in an example, or forgot to fill in, is shorter.
_SHORTEST = 16


def make_users(settings: BrokerSettings, passwords: Path, only: list[str]) -> list[str]:
    """Make the users, or set right those that are there; return their names.

    Parameters
    ----------
    settings : BrokerSettings
        An administrator's; its virtual host is the one in which the users get their rights.
    passwords : Path
        Folder of the files ``broker-<user>``.
    only : list of str
        Users to make; empty: all.

    Raises
    ------
    EnvironmentFault
        If a user is not in permissions.json, a password cannot be read or is too short, or the exchanges are
        not there; nobody is changed then.
    """
    rights: dict[str, dict[str, Any]] = json.loads(PERMISSIONS.read_text())
    names = only or list(rights)
    if unknown := sorted(set(names) - rights.keys()):
        raise EnvironmentFault(f"no user {', '.join(unknown)}: {PERMISSIONS} has {', '.join(rights)}")
    secrets = {name: _password(passwords / f"broker-{name}") for name in names}
    api, vhost = Management(settings), settings.vhost
    api.put("vhosts", vhost, body={})
    _require_exchanges(api, vhost, {exchange for name in names for exchange in rights[name]["topics"]})
    for name in names:
        may = rights[name]
        api.put("users", name, body={"password": secrets[name], "tags": may["tags"]})
        _allow_keys(api, vhost, name, may["topics"])
        # Last, so that a new user has at no time more than this.
        body = {kind: may[kind] for kind in ("configure", "write", "read")}
        api.put("permissions", vhost, name, body=body)
    return names


def _require_exchanges(api: Management, vhost: str, exchanges: set[str]) -> None:
    if missing := sorted(name for name in exchanges if api.get("exchanges", vhost, name) is None):
        raise EnvironmentFault(
            f"virtual host {vhost} has no exchange {', '.join(missing)}, to whose keys rights are given: run "
            "this with `--user topology`, `nircam-darks topology apply` as that user, then this again"
        )


def _allow_keys(api: Management, vhost: str, user: str, topics: dict[str, dict[str, str]]) -> None:
    """Narrow which routing keys a user has at exchanges; at one that is not named it has all of them."""
    standing = api.get("topic-permissions", vhost, user) or []
    if any(each["exchange"] not in topics for each in standing):
        api.delete("topic-permissions", vhost, user)
    for exchange, keys in topics.items():
        body = {"exchange": exchange, "read": _NOTHING, "write": _NOTHING} | keys
        api.put("topic-permissions", vhost, user, body=body)


def _password(path: Path) -> str:
    try:
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise EnvironmentFault(f"{path} cannot be read: {reason}; put the user's password there") from None
    if len(password) < _SHORTEST:
        raise EnvironmentFault(f"{path} holds fewer than {_SHORTEST} characters: that is no password")
    return password


def main() -> int:
    """Run as a command; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("passwords", type=Path, metavar="PASSWORDS_FOLDER")
    parser.add_argument("--user", action="append", default=[], help="only this one; may be given again")
    arguments = parser.parse_args()
    try:
        names = make_users(broker_settings(), arguments.passwords, arguments.user)
    except DarksError as error:
        print(f"users.py: {error}", file=sys.stderr)
        return 2
    print(f"users with their rights: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
