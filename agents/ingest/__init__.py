"""Steps of the ingest role: files and readings in, windows to be forecast out."""
