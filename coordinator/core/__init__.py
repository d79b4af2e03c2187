"""The coordinator's decisions: events in, commands out. Pure."""
