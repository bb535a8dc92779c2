"""What a store holds, read from its manifests as typed products."""
