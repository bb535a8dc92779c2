"""A NIRCam detector in the dark: what `nircam-darks simulate` is made of."""
