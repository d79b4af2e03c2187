"""The Protocols between the engine and what it runs on; every method with I/O is async.

Each has an adapter in memory and one on a real server, and both pass one contract suite.
"""
