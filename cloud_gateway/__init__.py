"""The cloud gateway: the delivery locker API as REST on one side, the machines' MQTT 5 on the other.

The machine decides; the gateway sends it commands, keeps a projection of its replies and events, and delivers
webhooks. Run: `python -m cloud_gateway --config GATEWAY.toml`.
"""
