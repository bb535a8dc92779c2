"""Stores: the Protocol, the local folder, S3, and the manifest that commits a product."""
