"""Engine `batch`: a batch runs to completion (docs/reference/semantics.md)."""
