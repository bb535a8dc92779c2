"""One module per command: its options, its call and its output; `nircam_darks.operations` does the work."""
