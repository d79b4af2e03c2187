"""The user's job file: loaded, inspected, called, its failures described."""
