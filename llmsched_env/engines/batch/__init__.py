"""Engine `batch`: a batch runs to completion (docs/semantics.md)."""
