"""What every command shares: options, exit codes, progress, the frame around an experiment."""
