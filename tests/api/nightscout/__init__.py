"""Tests of the Nightscout site."""
