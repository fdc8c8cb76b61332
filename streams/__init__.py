"""How data moves: topology, topics, consumers, tables, roles and the command line."""
