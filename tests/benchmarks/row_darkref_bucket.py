"""darkref on a full-frame set in a bucket of Ceph's gateway, against reading the same bytes with boto3."""

import os
import tempfile
from pathlib import Path

from harness import Row, Side, alternate, made, python, row

#: As `services.darkref.combine.combine_set` has it, and the size of its pieces of SCI.
REQUESTS, PIECE = 8, 2 * 1024**2


def measure(work: Path, runs: int) -> list[Row]:
    """Put the set into a bucket, then run both as whole processes."""
    from boto3.s3.transfer import TransferConfig

    from support import ceph_server

    store = made(["ramps", 2048, 20, 10, 10], work / "full")
    # The disk of the tests' server is too small for such a set.
    ceph_server._CONF = ceph_server._CONF.replace(
        "bluestore_block_size = 4294967296", "bluestore_block_size = 12884901888"
    )
    with ceph_server.running_ceph() as server, tempfile.TemporaryDirectory(dir=work) as scratch:
        bucket = server.new_bucket()
        client = server.client()
        for path in sorted(store.glob("ingest/*/*/*/*")):
            client.upload_file(
                str(path), bucket, str(path.relative_to(store)), Config=TransferConfig(use_threads=False)
            )
        os.environ.update(AWS_ACCESS_KEY_ID=ceph_server.ACCESS, AWS_SECRET_ACCESS_KEY=ceph_server.SECRET)
        where = ("--endpoint", server.endpoint, "--scratch", scratch)
        ours = Side(python("job.py", "darkref", f"s3://{bucket}", store / "set.json", *where))
        theirs = Side(python("peers.py", "bucket", server.endpoint, bucket, REQUESTS, PIECE))
        alternate(ours, theirs, runs)
    against = f"reading the same bytes with boto3, {REQUESTS} requests at once of {PIECE // 1024**2} MiB"
    return [
        row(
            "darkref, flight mode, full frame, 10 x 20, from Ceph RGW by ranged GET: reading and combining",
            against,
            "<= 1.3x",
            ours,
            theirs,
            lambda ratio: ratio <= 1.3,
            seconds=lambda run: run.said["timings"]["combine"],
            their_seconds=lambda run: run.said["read"],
            faster=False,
            note="gateway, disk and both clients on one machine; the whole job, which also uploads the "
            f"product, takes {ours.median(lambda one: one.said['job']):.1f} s",
        )
    ]
