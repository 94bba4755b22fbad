"""What can be measured: accuracy, size, latency and the machine. Importing this imports no torch."""
