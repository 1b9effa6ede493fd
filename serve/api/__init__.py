"""The endpoints and the schemas of their requests and answers."""
