"""The records on topics and over HTTP, and their exported JSON Schema and AsyncAPI documents."""
