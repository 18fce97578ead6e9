"""The simulator against real engines: logs, fits, replays, errors."""
