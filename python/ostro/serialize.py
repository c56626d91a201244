"""Turns a DAG into the JSON the control plane stores."""


def describe(dag):
    """Return ``dag`` as a dict with exactly the fields of the wire format."""
    return {"dag_id": dag.dag_id}
