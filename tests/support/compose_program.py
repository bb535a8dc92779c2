"""Where Compose 2 and its builder are, of which Debian's own Docker has neither."""

import os
from pathlib import Path

from support.doing_without import do_without
from support.paths import SERVERS

_FOLDERS = ("usr/libexec/docker/cli-plugins", "usr/lib/docker/cli-plugins")


def plugin(name: str) -> Path:
    """Return the plugin of Docker's client ``compose`` or ``buildx``, which runs without it too.

    It is the one that DARKS_TEST_COMPOSE or DARKS_TEST_BUILDX names, else that of deploy/install-servers.sh,
    else the machine's.
    """
    given = os.environ.get(f"DARKS_TEST_{name.upper()}")
    roots = (SERVERS / name, Path("/"))
    places = [Path(given)] if given else [root / way / f"docker-{name}" for root in roots for way in _FOLDERS]
    results = [place for place in places if place.is_file()]
    if not results:
        do_without(f"no docker-{name}: sh deploy/install-servers.sh {name} (as root, with apt)")
    return results[0]
