"""Create RabbitMQ's users, with the rights in permissions.json and passwords from files.

    python users.py PASSWORDS_FOLDER [--user NAME]...

DARKS_BROKER_URL, DARKS_BROKER_USER and DARKS_BROKER_PASSWORD_FILE are those of an administrator; the virtual
host is created if it does not exist. PASSWORDS_FOLDER holds a file ``broker-<user>`` for each user. Run it
again to change a password, or to undo rights that somebody widened by hand.

On a new broker run `users.py PASSWORDS_FOLDER --user topology`, `nircam-darks topology apply` as that user,
then `users.py PASSWORDS_FOLDER`: RabbitMQ 4.3 grants no rights to the keys of an exchange that does not
exist.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from shared.broker.rabbitmq.management import Management
from shared.errors import DarksError, EnvironmentFault
from shared.settings.broker import BrokerSettings, broker_settings

PERMISSIONS = Path(__file__).with_name("permissions.json")
_NOTHING = "^$"
#: A password left from an example, or not filled in, is shorter.
_SHORTEST = 16


def make_users(settings: BrokerSettings, passwords: Path, only: list[str]) -> list[str]:
    """Create the users, or correct those that exist; return their names.

    Parameters
    ----------
    settings : BrokerSettings
        Those of an administrator; the users get their rights in its virtual host.
    passwords : Path
        Folder with the files ``broker-<user>``.
    only : list of str
        Users to create; empty: all.

    Raises
    ------
    EnvironmentFault
        If a user is not in permissions.json, a password cannot be read or is too short, or the exchanges do
        not exist; no user is changed then.
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
        # Last, so that a new user never has more rights than these.
        body = {kind: may[kind] for kind in ("configure", "write", "read")}
        api.put("permissions", vhost, name, body=body)
    return names


def _require_exchanges(api: Management, vhost: str, exchanges: set[str]) -> None:
    if missing := sorted(name for name in exchanges if api.get("exchanges", vhost, name) is None):
        raise EnvironmentFault(
            f"virtual host {vhost} has no exchange {', '.join(missing)}, to whose keys rights are granted: "
            "run this with `--user topology`, `nircam-darks topology apply` as that user, then this again"
        )


def _allow_keys(api: Management, vhost: str, user: str, topics: dict[str, dict[str, str]]) -> None:
    """Restrict the routing keys that a user may use; an exchange that is not named allows all of them."""
    existing = api.get("topic-permissions", vhost, user) or []
    if any(each["exchange"] not in topics for each in existing):
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
        raise EnvironmentFault(f"{path} holds fewer than {_SHORTEST} characters: that is not a password")
    return password


def main() -> int:
    """Run as a command; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("passwords", type=Path, metavar="PASSWORDS_FOLDER")
    parser.add_argument("--user", action="append", default=[], help="create only this user; may be repeated")
    arguments = parser.parse_args()
    try:
        names = make_users(broker_settings(), arguments.passwords, arguments.user)
    except DarksError as error:
        print(f"users.py: {error}", file=sys.stderr)
        return 2
    print(f"Users and rights up to date: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
