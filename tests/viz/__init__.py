"""Charts, pages and their SQL."""
