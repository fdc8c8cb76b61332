"""Tells others: webhooks, ntfy and MQTT."""
