"""The Multi-Bin theorem against simulation."""
