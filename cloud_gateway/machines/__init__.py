"""Communication with machines: the MQTT link, commands with their replies, the validation of messages, sealed
ids."""
