"""How records are kept, moved and confirmed on Kafka: consumer, acks, tables, topics."""
