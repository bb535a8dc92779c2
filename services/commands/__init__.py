"""Operations on the command line: options in, text or JSON out. `services.operations` does the work."""
