"""Drifts from exposure to exposure, and transients after a reset."""
