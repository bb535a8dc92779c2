"""Settings from the environment, a class for each concern."""
