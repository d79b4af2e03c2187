"""A map or reduce attempt, inside its child process."""
