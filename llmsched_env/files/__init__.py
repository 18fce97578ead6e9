"""Files of users: read in bounded work, written whole or not at all, and names that are safe to show."""
