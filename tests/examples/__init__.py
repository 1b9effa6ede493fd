"""The scripts of examples/, run as they stand but for small models and short schedules."""
