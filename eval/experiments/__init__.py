"""The experiments behind the commands of eval/, one a file."""
