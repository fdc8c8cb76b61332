"""Vendors' files: what they are written in, who wrote them, and the series of glucose that they hold."""
