"""What each user of the store may do with the policies of deploy/s3/policies, and what not."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.least_rights import BUCKETS, ROOT, StoreUsers, script

pytestmark = pytest.mark.xdist_group("ceph")

ROLES = tuple(sorted(path.stem for path in (ROOT / "deploy" / "s3" / "policies").glob("*.json")))
#: Something of each kind that there is, as the owner of the bucket put it.
KEYS = {
    "exposure": "raw/jw01_uncal.fits",
    "ramp": "products/ingest/c/e/k/12345678/ramp.fits",
    "ramp's manifest": "products/ingest/c/e/k/manifest.json",
    "claim": "products/exposures/e/0/claim.json",
    "claim on bytes": "products/bytes/0/claim.json",
    "count": "products/expected/c/e/4.json",
    "persistence": "products/persistence/NRCA1/1_e/k/12345678/state.asdf",
    "persistence's manifest": "products/persistence/NRCA1/1_e/k/manifest.json",
    "reference": "products/darkref/c/s/k/12345678/dark.fits",
    "reference's manifest": "products/darkref/c/s/k/manifest.json",
    "sign-off": "products/darkref/c/s/k/sign_off.json",
    "noise": "products/noise/c/e/k/12345678/noise.json",
    "noise's manifest": "products/noise/c/e/k/manifest.json",
    "backfill's mark": "products/backfill/0.json",
    "archive's mark": "products/mast/program-1/x.json",
    "index": "products/index/arrivals-1/c/60/00/a~e/k",
    "catalog's mark": "products/index/catalog-1/new/ingest~c~e~k~manifest.json",
    "probe": "products/probe/0/object",
}
_INGESTS = {
    *("ramp", "ramp's manifest", "claim", "claim on bytes", "count", "persistence", "persistence's manifest"),
    *("index", "catalog's mark"),
}
_PRODUCTS = set(KEYS) - {"exposure"}
READS = {
    "ingest": {"exposure", "reference's manifest", "sign-off", "probe"} | _INGESTS,
    "darkref": {"ramp", "ramp's manifest", "reference", "reference's manifest", "sign-off", "probe"},
    "noise": {"ramp", "ramp's manifest", "noise", "noise's manifest", "probe"},
    "trigger": set(),
    "operator": set(KEYS),
    "reader": _PRODUCTS,
    "sweep": _PRODUCTS,
}
WRITES = {
    "ingest": _INGESTS | {"probe"},
    "darkref": {"reference", "reference's manifest", "sign-off", "catalog's mark", "probe"},
    "noise": {"noise", "noise's manifest", "catalog's mark", "probe"},
    "trigger": {"exposure"},
    "operator": {"exposure", "backfill's mark", "archive's mark", "sign-off", "index", "catalog's mark"},
    "reader": set(),
    "sweep": {"index", "catalog's mark"},
}
DELETES = {
    "ingest": {"claim", "claim on bytes", "index", "catalog's mark", "probe"},
    "darkref": {"probe"},
    "noise": {"probe"},
    "trigger": set(),
    "operator": {"index", "catalog's mark"},
    "reader": set(),
    "sweep": {"ramp", "persistence", "reference", "noise", "index", "catalog's mark"},
}


@pytest.fixture(scope="module")
def users(ceph) -> Iterator[StoreUsers]:
    """All users, in a bucket with something of each kind."""
    here = StoreUsers(ceph, ceph.new_bucket(), ROLES)
    here.make()
    for key in KEYS.values():
        ceph.client().put_object(Bucket=here.bucket, Key=key, Body=b"x")
    yield here
    here.remove()


def allowed(act: Any, *words: Any, **named: Any) -> bool:
    """Whether the store does something, or refuses it for want of a right."""
    try:
        act(*words, **named)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("AccessDenied", "403"):
            raise
        return False
    return True


@pytest.mark.parametrize("role", ROLES)
def test_each_does_to_objects_what_its_work_takes_and_no_more(users: StoreUsers, role: str) -> None:
    # Given a user, and the owner who puts back what was taken away
    mine, owner = users.client(role), users.ceph.client()
    read, written, deleted = set(), set(), set()
    for kind, key in KEYS.items():
        at = {"Bucket": users.bucket, "Key": key}
        # When each object is read, written and deleted
        if allowed(mine.get_object, **at):
            read.add(kind)
        if allowed(mine.put_object, **at, Body=b"y"):
            written.add(kind)
        if allowed(mine.delete_object, **at):
            deleted.add(kind)
        owner.put_object(**at, Body=b"x")
    # Then what succeeds is what the user's work takes
    assert read == READS[role]
    assert written == WRITES[role]
    assert deleted == DELETES[role]


@pytest.mark.parametrize("role", ROLES)
def test_nobody_changes_the_bucket_or_who_may_use_it(users: StoreUsers, role: str) -> None:
    mine, bucket = users.client(role), users.bucket
    assert not allowed(mine.delete_bucket, Bucket=bucket)
    assert not allowed(mine.get_bucket_policy, Bucket=bucket)
    assert not allowed(mine.put_bucket_policy, Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17"}))
    assert not allowed(mine.delete_bucket_policy, Bucket=bucket)
    assert not allowed(mine.put_object_acl, Bucket=bucket, Key=KEYS["ramp"], ACL="public-read")


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"trigger"}))
def test_what_is_not_there_is_told_so(users: StoreUsers, role: str) -> None:
    # Given a key under which there is nothing; then the answer is that, and not that access is denied
    with pytest.raises(ClientError) as error:
        users.client(role).get_object(Bucket=users.bucket, Key="products/health/nothing")
    assert error.value.response["Error"]["Code"] == "NoSuchKey"
    # And what there is can be listed
    answer = users.client(role).list_objects_v2(Bucket=users.bucket, Prefix="products/ingest/")
    assert answer["KeyCount"] == 2


def test_a_stranger_may_nothing(users: StoreUsers) -> None:
    # Given a user of the same server that no policy names
    other = StoreUsers(users.ceph, users.bucket, ("stranger",))
    other._admin("user", "create", "--uid=stranger", "--display-name=x", *other._keys("stranger"))
    try:
        mine = other.client("stranger")
        assert not any(allowed(mine.get_object, Bucket=users.bucket, Key=key) for key in KEYS.values())
        assert not allowed(mine.list_objects_v2, Bucket=users.bucket)
    finally:
        other.remove()


def test_a_policy_is_printed_as_aws_takes_it() -> None:
    # Given two buckets, one with a prefix
    words = ("print", "ingest", "--raw", "exposures", "--products", "darks/flight")
    done = script(BUCKETS, *words)
    # Then every address is filled in
    assert done.returncode == 0, done.stderr
    resources = {arn for each in json.loads(done.stdout)["Statement"] for arn in each["Resource"]}
    assert "$" not in done.stdout
    assert {"arn:aws:s3:::exposures", "arn:aws:s3:::exposures/*", "arn:aws:s3:::darks"} <= resources
    assert "arn:aws:s3:::darks/flight/ingest/*" in resources
    # And what is no address is refused
    refused = script(BUCKETS, *words[:-1], "No_Bucket/x")
    assert refused.returncode == 2
    assert "is not the address of a bucket" in refused.stderr
