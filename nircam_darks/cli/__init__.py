"""The command `nircam-darks`."""
