"""The MQTT 5 client of machine and gateway; the only package that imports paho-mqtt."""
