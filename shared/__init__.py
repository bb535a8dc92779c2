"""What every service stands on. Imports nothing from ``services``."""
