"""The HTTP layer: a read model fed by topics, and the endpoints over it."""
