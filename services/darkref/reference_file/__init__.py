"""A dark reference file as CRDS wants it: header, HISTORY, planes, and reading it back."""
