"""Which sets of a configuration are complete."""
