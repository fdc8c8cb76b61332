"""What openssl takes for a certificate of a test, which signs itself."""

SELF_SIGNED = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")
"""Of an elliptic curve: to look for the primes of RSA takes a hundred times as long."""
