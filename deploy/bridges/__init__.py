"""Readings of people, pulled from services that do not push them."""
