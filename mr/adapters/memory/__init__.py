"""Broker and state store inside one process: the embedded mode, and the reference of the contract suites."""
