"""What surrounds every endpoint: errors, keys, the access log, traces."""
