"""Real servers, seen by a client: without one, against servers that play their part."""
