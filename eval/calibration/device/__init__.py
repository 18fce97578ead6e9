"""The model and the device that are measured.  Needs torch, but for `quiet`."""
