"""The reference that a new dark takes the place of: found in the store, or given."""
