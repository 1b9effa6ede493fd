"""The server under load: its process, a client, and a load generator."""
