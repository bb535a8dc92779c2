"""NIRCam: detectors, configuration keys, geometry, exposure ids."""
