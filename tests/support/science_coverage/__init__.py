"""Sets of simulated darks against their truth: drawn, measured, and tabled as pulls."""
