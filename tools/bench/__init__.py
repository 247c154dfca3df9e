"""The whole product on one machine: broker, simulated bus, agent and gateway, started and supervised."""
