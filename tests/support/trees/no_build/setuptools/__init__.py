"""Stands in for setuptools while pip fetches an archive, so that no code of the archive runs."""
