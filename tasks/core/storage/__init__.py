"""Files and the store, on local disk and on S3."""
