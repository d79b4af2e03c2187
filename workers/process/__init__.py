"""Child processes: the fork template, the executor that gives them attempts, the child itself."""
