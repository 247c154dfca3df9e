"""Communication with machines: the MQTT link, requests with their replies, the gate, seals, signatures."""
