"""The endpoints and what goes over the wire."""
