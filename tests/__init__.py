"""The tests, in rooms that follow the packages."""
