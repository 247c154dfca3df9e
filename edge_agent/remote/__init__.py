"""Service commands: technicians' work that is requested over MQTT
(docs/decisions/0049-service-commands.md)."""
