"""Messages, S3 event notifications, routing, and the schemas made from them."""
