// Package airflowclient holds a test only: the genuine apache-airflow-client calls the real program.
package airflowclient
