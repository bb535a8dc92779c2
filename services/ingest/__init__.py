"""Announced exposure -> validated, calibrated, jump-flagged ramp in the store."""
