"""The documentation site: what mkdocs.yml adds to docs/ from the program itself."""
