"""`python -m services.ingest`: ingest as a service."""

import sys

from shared.runtime.service import program

if __name__ == "__main__":
    raise SystemExit(program("ingest", sys.argv[1:]))
