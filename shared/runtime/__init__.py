"""A service as a process: worker, jobs, handlers, health, logs and metrics."""
