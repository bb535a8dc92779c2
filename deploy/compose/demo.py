"""The whole pipeline, as a newcomer tries it: upload and announce simulated exposures, wait for references.

    python demo.py FOLDER [--raw s3://darks/raw/] [--plan FILE] [--minutes N]

FOLDER receives the exposures and, in ``crds_cache``, the references that ingest needs for them; the services
must see the same folder. The environment is that of an operator (DARKS_BROKER_*, DARKS_STORE, DARKS_S3_*,
AWS_*). It may be run again: exposures that exist are announced again.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from nircam_darks.operations.candidates import peek
from nircam_darks.operations.dead_letters import letters, service_queues, summary
from nircam_darks.operations.store_access import open_existing, operator_settings
from shared.addresses import bucket_address
from shared.errors import DarksError, EnvironmentFault, TransientError
from shared.settings.broker import broker_settings
from shared.settings.service import read_settings, read_settings_file
from shared.settings.stage import S3Settings
from shared.store.base import Store
from shared.store.manifest import Manifest, find_all
from shared.store.s3_client import make_client, s3_faults

PLAN = Path(__file__).with_name("demo-plan.json")
_ASK_AGAIN = 3.0
#: Dead letters are read less often, because other readers have to wait meanwhile.
_READ_LETTERS = 15.0


def simulated(folder: Path, plan: Path) -> list[Path]:
    """Return the exposures of the plan; simulate them if that has not been done before."""
    if not (folder / "truth.json").exists():
        _darks("simulate", "--plan", str(plan), "--out", str(folder))
    return sorted((folder / "darks").glob("*_uncal.fits"))


def upload(files: list[Path], raw: str) -> None:
    """Upload exposures to where they are announced from."""
    bucket, prefix = bucket_address(raw)
    client = make_client(read_settings(S3Settings))
    for path in files:
        with s3_faults(f"s3://{bucket}"), path.open("rb") as body:
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.name}".lstrip("/"), Body=body)


def references(store: Store, exposures: set[str]) -> Iterator[Manifest]:
    """Yield the references built from these exposures."""
    for manifest in find_all(store, "darkref/"):
        if manifest.product == "reference" and exposures & set(manifest.results["exposures"]):
            yield manifest


def require_no_letter(exposures: set[str], since: datetime) -> None:
    """Raise if a message about these exposures has become a dead letter.

    Raises
    ------
    EnvironmentFault
        If one has; it gives the reason, as `nircam-darks dead-letters` does.
    TransientError
        If dead letters cannot be read now.
    """
    for stored in letters(broker_settings(), service_queues([])):
        about = any(name.encode() in stored.letter.body for name in exposures)
        if about and stored.died and stored.died >= since:
            dead = summary(stored)
            raise EnvironmentFault(
                f"a message in {dead['queue']} was given up: {dead['reason']}; "
                f"see `nircam-darks dead-letters show {dead['id']}`"
            )


def wait_for(store: Store, files: list[Path], since: datetime, minutes: float) -> list[Manifest]:
    """Wait until the store has a reference for every configuration of these exposures; return them.

    Raises
    ------
    EnvironmentFault
        If one is missing after `minutes`, or a message about the exposures became a dead letter after
        `since`.
    """
    candidates = [peek(path) for path in files]
    exposures = {candidate.exposure_id for candidate in candidates}
    wanted = {candidate.configuration for candidate in candidates}
    deadline = time.monotonic() + minutes * 60
    read_at = time.monotonic() + _READ_LETTERS
    while True:
        built = list(references(store, exposures))
        missing = wanted - {manifest.results["configuration"] for manifest in built}
        if not missing:
            return built
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"after {minutes:g} minutes there is no reference of {', '.join(sorted(map(str, missing)))}: "
                "see `nircam-darks status` and the logs of ingest and darkref"
            )
        if time.monotonic() > read_at:
            # Somebody else may be reading them, or the broker may be down for a moment: try again next time.
            with suppress(TransientError):
                require_no_letter(exposures, since)
            read_at = time.monotonic() + _READ_LETTERS
        time.sleep(_ASK_AGAIN)


def _darks(*words: str) -> None:
    done = subprocess.run([Path(sys.executable).with_name("nircam-darks"), *words], check=False)
    if done.returncode:
        raise EnvironmentFault(
            f"nircam-darks {words[0]} ended with exit code {done.returncode}; see its message above"
        )


def main() -> int:
    """Run as a command; return its exit code."""
    raw_text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw_text)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--raw", default="s3://darks/raw/", help="where the exposures go: s3://bucket/prefix/"
    )
    parser.add_argument("--plan", type=Path, default=PLAN, help="what to simulate")
    parser.add_argument("--minutes", type=float, default=15, help="how long to wait for the references")
    arguments = parser.parse_args()
    try:
        read_settings_file()
        files = simulated(arguments.folder, arguments.plan)
        upload(files, arguments.raw)
        raw, since = arguments.raw.rstrip("/") + "/", datetime.now(UTC).replace(microsecond=0)
        _darks("announce", "--complete", "--uri-prefix", raw, *map(str, files))
        with closing(open_existing(operator_settings())) as store:
            for manifest in wait_for(store, files, since, arguments.minutes):
                print(f"reference of {manifest.results['configuration']}:")
                for entry in manifest.objects:
                    print(f"    {store.uri(entry.key)}  {entry.size} bytes")
    except (DarksError, OSError) as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
