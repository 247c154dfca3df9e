"""Communication with machines: the MQTT link, commands with their replies, the gate, seals."""
