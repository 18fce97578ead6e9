"""The simulator beside real engines: logs, fits, replays, errors."""
