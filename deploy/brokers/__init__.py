"""Where the broker of `glucast up` comes from: embedded, a local Apache Kafka, or somebody else's cluster."""
