"""The compiled arithmetic of `services.darkref.combine`, sixteen pixels at a time."""
