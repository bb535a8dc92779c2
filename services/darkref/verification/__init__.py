"""Whether a new dark reference can be used: CRDS rules, an exposure that was left out, expected values."""
