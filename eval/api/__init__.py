"""The Python interface: ``from llmsched import Scenario, compare`` (docs/reference/python_api.md)."""
