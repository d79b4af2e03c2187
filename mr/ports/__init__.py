"""The Protocols between the engine and the outside, asyncio all of them.

Each has a memory adapter and a real one, held to one contract suite.
"""
