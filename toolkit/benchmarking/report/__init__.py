"""The report of a bench: tables, plots, claims, and what regressed."""
