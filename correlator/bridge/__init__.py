"""MQTT to raw Kafka topics: what a broker has given us is in Kafka before the broker is told so."""
