"""What the tests share: servers that they start, builders of their inputs, readers of what came out."""
