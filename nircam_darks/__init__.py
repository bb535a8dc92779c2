"""From JWST NIRCam dark exposures to dark reference files and noise reports."""
