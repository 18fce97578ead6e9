"""The leaderboard and its tool."""
