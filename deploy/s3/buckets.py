"""Make the store's buckets, and let each user do there what its policy says.

    python buckets.py apply --raw darks/raw --products darks/products
    python buckets.py print ingest --raw darks/raw --products darks/products

`apply` is for a server of one's own that knows bucket policies (Ceph): DARKS_S3_ENDPOINT names it, the AWS_*
variables are those of the buckets' owner, and the users (``ingest``, ``darkref``, ...) are there already.
`print` writes one user's policy as it is attached to a user or role of AWS. What each of them may do is in
policies/; addresses are ``bucket`` or ``bucket/prefix``. A star there stands for one part of a key, or at the
end for the rest: servers differ (Ceph 16 does not let one in the middle span a slash, AWS does).
"""

import argparse
import json
import sys
from pathlib import Path
from string import Template
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import DarksError
from shared.service_settings import read_settings, read_settings_file
from shared.settings import S3Settings
from shared.store.keys import bucket_address
from shared.store.s3_client import code_of, make_client, s3_faults

POLICIES = Path(__file__).with_name("policies")
_ARN = "arn:aws:s3:::"


def roles() -> list[str]:
    """Return the names of the users that there is a policy for."""
    return sorted(path.stem for path in POLICIES.glob("*.json"))


def policy_of(role: str, raw: str, products: str) -> dict[str, Any]:
    """Return a user's policy, as AWS attaches it to a user or role.

    Parameters
    ----------
    role : str
    raw, products : str
        ``bucket`` or ``bucket/prefix``: where exposures lie, and DARKS_STORE.
    """
    addresses = {"raw": raw.rstrip("/"), "products": products.rstrip("/")}
    buckets = {f"{name}_bucket": address.partition("/")[0] for name, address in addresses.items()}
    said = Template((POLICIES / f"{role}.json").read_text()).substitute(addresses | buckets)
    policy: dict[str, Any] = json.loads(said)
    return policy


def bucket_policies(raw: str, products: str) -> dict[str, dict[str, Any]]:
    """Return what all users together may do, as a policy of each bucket."""
    statements: dict[str, list[dict[str, Any]]] = {
        address.partition("/")[0]: [] for address in (raw, products)
    }
    for role in roles():
        for statement in policy_of(role, raw, products)["Statement"]:
            # All resources of a statement lie in one bucket: each is about exposures or about products.
            bucket = statement["Resource"][0].removeprefix(_ARN).partition("/")[0]
            whom = {"Sid": f"{role}{statement['Sid']}", "Principal": {"AWS": [f"arn:aws:iam:::user/{role}"]}}
            statements[bucket].append(statement | whom)
    return {bucket: {"Version": "2012-10-17", "Statement": each} for bucket, each in statements.items()}


def apply(client: Any, raw: str, products: str) -> list[str]:
    """Make the buckets where they are not there, and set their policies; return their names."""
    policies = bucket_policies(raw, products)
    for bucket, policy in policies.items():
        with s3_faults(f"s3://{bucket}"):
            try:
                client.create_bucket(Bucket=bucket)
            except ClientError as error:
                if code_of(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
            client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return list(policies)


def main() -> int:
    """Run as a command; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    printing = commands.add_parser("print", help="write one user's policy")
    printing.add_argument("role", choices=roles())
    for command in (printing, commands.add_parser("apply", help="make the buckets and set their policies")):
        command.add_argument("--raw", required=True, help="where exposures lie: bucket/prefix")
        command.add_argument("--products", required=True, help="the store: bucket/prefix")
    arguments = parser.parse_args()
    try:
        for address in (arguments.raw, arguments.products):
            bucket_address(f"s3://{address}")
        if arguments.command == "print":
            print(json.dumps(policy_of(arguments.role, arguments.raw, arguments.products), indent=2))
            return 0
        read_settings_file()
        client = make_client(read_settings(S3Settings))
        print(f"buckets with their policies: {', '.join(apply(client, arguments.raw, arguments.products))}")
    except (DarksError, BotoCoreError, ValueError) as error:
        print(f"buckets.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
