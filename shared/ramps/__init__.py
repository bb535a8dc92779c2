"""Ramps and cubes on disk or in a bucket, read a window at a time."""
