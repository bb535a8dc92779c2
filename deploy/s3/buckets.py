"""Create the store's buckets, and grant each user what its policy says.

    python buckets.py apply --raw darks/raw --products darks/products
    python buckets.py print ingest --raw darks/raw --products darks/products

`apply` is for a server of your own that supports bucket policies (Ceph): DARKS_S3_ENDPOINT names it, the
AWS_* variables are those of the buckets' owner, and the users (one per service, and others) exist already.
`print` writes one user's policy in the form in which AWS attaches it to a user or role. policies/ holds what
each may do; addresses are ``bucket`` or ``bucket/prefix``. A star in a policy stands for one part of a key,
or at the end for the rest: servers differ (in Ceph 16 a star in the middle does not match a slash, in AWS it
does).
"""

import argparse
import json
import sys
from pathlib import Path
from string import Template
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.addresses import bucket_address
from shared.errors import DarksError
from shared.settings.service import read_settings, read_settings_file
from shared.settings.stage import S3Settings
from shared.store.s3_client import code_of, make_client, s3_faults

POLICIES = Path(__file__).with_name("policies")
_ARN = "arn:aws:s3:::"


def roles() -> list[str]:
    """Return the names of the users that have a policy."""
    return sorted(path.stem for path in POLICIES.glob("*.json"))


def policy_of(role: str, raw: str, products: str) -> dict[str, Any]:
    """Return a user's policy in the form in which AWS attaches it to a user or role.

    Parameters
    ----------
    role : str
    raw, products : str
        ``bucket`` or ``bucket/prefix`` of the exposures, and of DARKS_STORE.
    """
    addresses = {"raw": raw.rstrip("/"), "products": products.rstrip("/")}
    buckets = {f"{name}_bucket": address.partition("/")[0] for name, address in addresses.items()}
    text = Template((POLICIES / f"{role}.json").read_text()).substitute(addresses | buckets)
    policy: dict[str, Any] = json.loads(text)
    return policy


def bucket_policies(raw: str, products: str) -> dict[str, dict[str, Any]]:
    """Return the policy of each bucket: the rights of all users together."""
    statements: dict[str, list[dict[str, Any]]] = {
        address.partition("/")[0]: [] for address in (raw, products)
    }
    for role in roles():
        for statement in policy_of(role, raw, products)["Statement"]:
            # All resources of a statement are in one bucket: each concerns exposures or products.
            bucket = statement["Resource"][0].removeprefix(_ARN).partition("/")[0]
            whom = {"Sid": f"{role}{statement['Sid']}", "Principal": {"AWS": [f"arn:aws:iam:::user/{role}"]}}
            statements[bucket].append(statement | whom)
    return {bucket: {"Version": "2012-10-17", "Statement": each} for bucket, each in statements.items()}


def apply(client: Any, raw: str, products: str) -> list[str]:
    """Create the buckets that do not exist, and set their policies; return their names."""
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
    for command in (printing, commands.add_parser("apply", help="create the buckets and set their policies")):
        command.add_argument("--raw", required=True, help="where the exposures are: bucket/prefix")
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
        print(
            f"Buckets and policies up to date: {', '.join(apply(client, arguments.raw, arguments.products))}"
        )
    except (DarksError, BotoCoreError, ValueError) as error:
        print(f"buckets.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
