"""`python -m services.noise`: noise as a service."""

import sys

from shared.runtime.service import program

if __name__ == "__main__":
    raise SystemExit(program("noise", sys.argv[1:]))
