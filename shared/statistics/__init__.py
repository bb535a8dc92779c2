"""Medians, robust spread, running moments, trends and verdicts; no input or output."""
