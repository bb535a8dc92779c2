"""Noise of single reads: CDS, kTC, 1/f, spectra, reference pixels."""
