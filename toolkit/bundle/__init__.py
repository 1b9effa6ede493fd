"""The bundle: the artifact on disk that every command reads or writes."""
