"""The command `mr`."""
