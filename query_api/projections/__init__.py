"""What the query layer keeps of each topic that it follows: one file a topic, listed in read_model.py."""
