"""The cloud gateway: the delivery locker API as REST on one side, the machines' MQTT 5 on the other.

The machine decides; the gateway sends it commands, keeps a projection of its replies and events, and delivers
webhooks. Run: `python -m cloud_gateway --config GATEWAY.toml`.

`api`: REST routes and the HTTP server. `machines`: the link to the broker, commands and their replies, the
checks of what a machine sends. `events`: events taken in and put in order, the projection, reconciliation.
`webhooks`: delivery. `operations`: the operators' pages. `db`: tables, store, migrations. `app` assembles
them.
"""
