"""A control plane in memory, for tests and for running a DAG without a server."""
