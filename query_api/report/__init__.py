"""A person's glucose of some weeks, for people: the numbers, their drawings, the page."""
