"""`python -m services.ingest`: ingest as a service."""

from shared.service import main

if __name__ == "__main__":
    raise SystemExit(main("ingest", "services.ingest.handler:handle"))
