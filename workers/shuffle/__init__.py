"""The Arrow data plane between map and reduce."""
