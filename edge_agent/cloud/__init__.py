"""The connection to the cloud: one MQTT 5 link and its messages. Knows no drivers."""
