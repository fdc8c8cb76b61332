"""What other teams build on: schemas, AsyncAPI and the tables of the papers, generated from the code."""
