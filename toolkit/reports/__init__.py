"""The HTML page and the SVG style that all reports share."""
