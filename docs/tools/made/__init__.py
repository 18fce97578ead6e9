"""What docs/tools/regenerate.py is made of: the marks in pages, the commands they name, the tables made of results."""
