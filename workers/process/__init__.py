"""Child processes: the fork template, the executor that hands them attempts, the child itself."""
