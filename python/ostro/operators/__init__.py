"""The operators of Airflow's standard provider, and KubernetesPodOperator."""
