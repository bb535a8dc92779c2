"""What the manifest of each kind of product carries."""
