"""The worker daemon: takes messages, claims tasks, runs them in child processes, serves map outputs."""
