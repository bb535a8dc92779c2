"""One folder a stage; a stage is a pure function behind a thin handler."""
