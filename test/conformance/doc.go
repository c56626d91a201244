// Package conformance holds a test only: every DAG file of examples/conformance comes to the same end here as on genuine
// Airflow.
//
// What genuine Airflow did is in golden/, one file a DAG, written by airflow_goldens.py with Airflow's version; observe.py
// runs the files on either system and writes down run states, task states, tries, XComs, map indexes and order. The test
// needs no Airflow; `make conformance` asks the real one again.
package conformance
