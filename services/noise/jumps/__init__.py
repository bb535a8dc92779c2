"""Cosmic-ray jumps: counts as NRC-09 prints them, events, rates, and the ramps of single pixels."""
