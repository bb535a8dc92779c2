"""Combine many ramps into a mean ramp: pedestals, flags, the sigma clip and the windows of reading."""
