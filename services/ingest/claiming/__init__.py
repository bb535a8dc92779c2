"""Which file stands for an exposure."""
