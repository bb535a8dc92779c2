"""`python -m services.noise`: noise as a service."""

from shared.service import main

if __name__ == "__main__":
    raise SystemExit(main("noise", "services.noise.handler:handle"))
