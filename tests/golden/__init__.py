"""What figures have to look like, by structure: see figures.py, which also writes these files anew."""
