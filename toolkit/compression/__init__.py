"""From a budget of milliseconds, megabytes and points to a bundle: prices of shapes, a search, an answer."""
