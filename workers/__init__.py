"""The worker: claims tasks, runs user code in child processes, serves map outputs to reducers."""
