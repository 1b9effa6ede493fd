"""The transport around every endpoint: errors, API keys, the access log, traces."""
