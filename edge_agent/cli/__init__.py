"""The technician's commands. Those about a running machine talk to its daemon over the Unix socket; `init`
uses the buses itself, `logs` asks systemd; `check`, `config`, `explain`, `schema`, `technician` and
`completion` need no daemon."""
