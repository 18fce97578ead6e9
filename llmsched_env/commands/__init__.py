"""What every command does around its work: exit codes, standard streams, refusals in one line."""
