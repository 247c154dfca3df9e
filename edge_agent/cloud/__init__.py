"""The way to the cloud: one MQTT 5 link, and what goes over it. Knows no drivers."""
