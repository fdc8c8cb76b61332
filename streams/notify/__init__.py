"""Tells others: webhooks, ntfy, Nightscout sites and MQTT."""
