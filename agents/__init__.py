"""What each step of the pipeline does to its data."""
