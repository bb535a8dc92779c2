"""New dark exposures in the archive (MAST): search, location, announcement."""
