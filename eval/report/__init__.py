"""What is written down: tables, files, pages, timelines."""
