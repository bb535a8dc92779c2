"""What the mean ramp shows: dark current, bad pixels, and changes against the previous reference."""
