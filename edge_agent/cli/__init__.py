"""The technician's commands. They talk to the daemon over its Unix socket and nothing else."""
