"""The continuous oracle against schedules worked out by hand, and what holds in all of its runs."""
