"""A detector's persistence state: how it goes from one exposure to the next, and where it is kept."""
