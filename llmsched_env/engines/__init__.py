"""The engines: how servers work.  They know the core and not each other."""
