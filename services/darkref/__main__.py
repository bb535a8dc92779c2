"""`python -m services.darkref`: darkref as a service."""

from shared.service import main

if __name__ == "__main__":
    raise SystemExit(main("darkref", "services.darkref.handler:handle"))
