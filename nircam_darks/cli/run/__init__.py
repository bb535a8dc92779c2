"""`nircam-darks run`: all three services in one process tree, with nothing to set up."""
