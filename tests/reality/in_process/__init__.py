"""The serving loop in this process: without a model in virtual time, and with torch on a small one."""
