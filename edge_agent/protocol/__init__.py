"""The MQTT contract and the API's bodies as models; knows nothing of sockets, disks or clocks."""
