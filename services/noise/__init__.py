"""An exposure -> jump statistics; a complete set -> effective noise and stability."""
