"""The tests' own rig: real servers, stand-ins, readers and the oracle (README.md)."""
