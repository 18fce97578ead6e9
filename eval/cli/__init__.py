"""What all commands share: options, exit codes, progress, the frame of an experiment."""
