"""One file a question. ``python -m benchmarks`` runs them all, ``python -m benchmarks NAME ...`` those named."""
