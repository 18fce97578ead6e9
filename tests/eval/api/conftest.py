"""What a test registers is gone after it."""

from tests.policies.conftest import own_registry  # noqa: F401  (used by every test here)
