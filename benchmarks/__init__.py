"""Tables for the documentation, one command each: `python -m benchmarks NAME`."""
