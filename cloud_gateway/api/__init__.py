"""The REST API of the reference: routes, bodies, errors, the HTTP server with its limits."""
