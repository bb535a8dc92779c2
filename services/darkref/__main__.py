"""`python -m services.darkref`: darkref as a service."""

import sys

from shared.runtime.service import program

if __name__ == "__main__":
    raise SystemExit(program("darkref", sys.argv[1:]))
