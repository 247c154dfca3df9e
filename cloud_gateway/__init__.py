"""The cloud gateway: the delivery locker API as REST on one side, the machines' MQTT 5 on the other.

The machine decides; the gateway asks it, keeps a projection of what it answered and told, and delivers
webhooks. Run: `python -m cloud_gateway --config GATEWAY.toml`.
"""
