"""Virtual people with type 1 diabetes: published physiology, invented days, a noisy sensor."""
