"""What is sent to machines and taken from them: the MQTT link, requests with their replies, the gate,
seals, signatures."""
