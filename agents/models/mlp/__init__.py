"""A small network without attention: its features, its file and how it is served."""
