"""The project itself: its structure and its pages."""
