"""Noise of fitted slopes against the number of groups, measured, in theory and emulated."""
