"""A complete exposure set -> dark reference file."""
