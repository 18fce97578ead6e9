"""Tests of compare: table, files, report page."""
