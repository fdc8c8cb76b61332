"""The inference role without Kafka: which requests the model answers next, and how."""
