"""Variables, connections, hooks, configuration and the small notifiers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException, AirflowNotFoundException
from airflow.hooks.base import BaseHook
from airflow.models import Connection, Variable
from ostro import live
from ostro.localcomms import LocalComms


@pytest.fixture
def comms(monkeypatch):
    made = LocalComms({"a": "1", "j": '{"x": [1]}', "api_key": "s3cret"}, {"db": "postgres://u:p%40sswd@h:5432/s?sslmode=require"})
    monkeypatch.setattr(live, "comms", made)
    return made


def test_a_variable_comes_from_the_environment_first(comms, monkeypatch):
    assert Variable.get("a") == "1"
    monkeypatch.setenv("AIRFLOW_VAR_A", "env")
    assert Variable.get("a") == "env"


def test_variables_have_defaults_json_and_errors(comms):
    assert Variable.get("j", deserialize_json=True) == {"x": [1]}
    assert (Variable.get("none", default_var=None), Variable.get("none", default=3), Variable.get("none", 4)) == (None, 3, 4)
    with pytest.raises(KeyError, match="Variable none does not exist"):
        Variable.get("none")


def test_variables_are_set_and_deleted(comms):
    Variable.set("new", {"a": 1}, serialize_json=True)
    assert Variable.get("new", deserialize_json=True) == {"a": 1}
    assert Variable.setdefault("n2", "d") == "d" and Variable.get("n2") == "d"
    Variable.delete("new")
    assert Variable.get("new", None) is None


def test_a_variable_with_a_secret_name_is_masked(comms):
    Variable.get("api_key")
    assert comms.masker.mask("a s3cret 1") == "a *** 1" and comms.sent == []


@pytest.mark.parametrize("name, secret", [
    ("api_key", True), ("DB-Password", True), ("aws_access_key_id", True), ("https_proxy", True), ("environment", False),
    ("max_tokens", False), ("tokenizer", False), ("keyfile_dict", True)])
def test_names_of_secrets_are_those_the_worker_knows(name, secret):
    from ostro.masking import looks_secret

    assert looks_secret(name) is secret


def test_a_secret_of_the_environment_is_masked_before_the_task_has_it(comms, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_MY_TOKEN", "tok-1")
    monkeypatch.setenv("AIRFLOW_VAR_CFG", '{"user": "joe", "db": {"password": "hunter2"}}')
    monkeypatch.setenv("AIRFLOW_CONN_E", "http://u:pass-1@h/?api_key=key-of-e")
    Variable.get("my_token"), Variable.get("cfg", deserialize_json=True), BaseHook.get_connection("e")
    # Requests, not notifications: each was answered before the value was returned.
    assert [one["value"] for one in comms.asked if one["type"] == "MaskSecret"] == ["tok-1", "hunter2", "pass-1", "key-of-e"]


def test_a_process_that_cannot_tell_a_secret_still_gets_the_value(comms, monkeypatch):
    from ostro.exceptions import error_for

    def refuse(message):
        raise error_for("NOT_SUPPORTED", "a child")

    comms.request = refuse
    monkeypatch.setenv("AIRFLOW_VAR_MY_TOKEN", "tok-1")
    assert Variable.get("my_token") == "tok-1"


def test_mask_secret_waits_until_the_value_is_hidden(comms):
    from airflow.utils.log.secrets_masker import mask_secret

    mask_secret("one-secret")
    mask_secret({"user": "joe", "password": "two-secret"})
    assert comms.sent == [] and comms.masker.mask("one-secret joe two-secret") == "*** joe ***"


def test_without_a_server_only_the_environment_is_read():
    assert Variable.get("x", default=5) == 5
    with pytest.raises(KeyError, match="set AIRFLOW_VAR_X or give a default"):
        Variable.get("x")
    with pytest.raises(AirflowNotFoundException, match="AIRFLOW_CONN_X"):
        BaseHook.get_connection("x")


@pytest.mark.parametrize("uri, want", [
    ("postgres://u:p%40ss@Host:5432/s%2Fx?sslmode=require",
     ("postgres", "Host", "u", "p@ss", 5432, "s/x", {"sslmode": "require"})),
    ("google-cloud-platform://?extra__x=1", ("google_cloud_platform", "", None, None, None, "", {"extra__x": "1"})),
    ("http://https://api.example.com:8443", ("http", "https://api.example.com", None, None, 8443, "", {})),
    ("aws://key:se%2Fcret@/?__extra__=%7B%22region%22%3A+%7B%22a%22%3A+1%7D%7D",
     ("aws", "", "key", "se/cret", None, "", {"region": {"a": 1}})),
])
def test_a_connection_uri_is_read_and_written(uri, want):
    for one in (Connection(uri=uri), Connection(uri=Connection(uri=uri).get_uri())):
        assert (one.conn_type, one.host, one.login, one.password, one.port, one.schema, one.extra_dejson) == want


def test_connections_from_the_environment_in_both_forms(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_A", "http://u:p@h/s")
    monkeypatch.setenv("AIRFLOW_CONN_B", '{"conn_type": "http", "host": "h", "port": "80", "extra": {"a": 1}}')
    monkeypatch.setenv("AIRFLOW_CONN_C", '{"hots": "h"}')
    assert BaseHook.get_connection("a").login == "u"
    assert (BaseHook.get_connection("b").port, BaseHook.get_connection("b").extra_dejson) == (80, {"a": 1})
    with pytest.raises(Exception, match=r"connection c: unknown field 'hots' \(did you mean 'host'\?\)"):
        BaseHook.get_connection("c")


def test_a_connection_of_the_server_is_masked(comms):
    found = BaseHook.get_connection("db")
    assert (found.host, found.password, found.extra_dejson) == ("h", "p@sswd", {"sslmode": "require"})
    assert comms.masker.mask("my p@sswd") == "my ***"
    with pytest.raises(AirflowNotFoundException, match="The conn_id `none` isn't defined"):
        BaseHook.get_connection("none")


def test_configuration_has_getters_and_the_environment_wins(monkeypatch):
    assert (conf.get("core", "executor"), conf.getint("core", "parallelism"), conf.getboolean("core", "load_examples")) == (
        "LocalExecutor", 32, False)
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "7")
    monkeypatch.setenv("AIRFLOW__MY__LIST", "a, b")
    assert conf.getint("core", "parallelism") == 7 and conf.getlist("my", "list") == ["a", "b"]
    assert conf.get("my", "none", fallback="f") == "f" and not conf.has_option("my", "none")
    with pytest.raises(AirflowConfigException, match=r"section/key \[my/none\] not found in config"):
        conf.get("my", "none")
    with pytest.raises(AirflowConfigException, match="failed to convert"):
        conf.getboolean("core", "parallelism")


@pytest.fixture
def server():
    """An HTTP server that keeps what it is sent."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, body, self.headers.get("Authorization")))
            self.send_response(200 if "fail" not in self.path else 500)
            self.end_headers()
            self.wfile.write(b'{"ok": true, "dedup_key": "k"}')

        def log_message(self, *args):
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    httpd.got, httpd.url = got, "http://127.0.0.1:%d" % httpd.server_port
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_notifiers_post_rendered_messages_from_callbacks(server, monkeypatch):
    from airflow import DAG
    from airflow.operators.python import PythonOperator
    from airflow.providers.pagerduty.notifications.pagerduty import send_pagerduty_notification
    from airflow.providers.slack.notifications.slack import send_slack_notification
    from airflow.providers.slack.notifications.slack_webhook import send_slack_webhook_notification
    from support import START, attempt

    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps({"password": "tok", "extra": {"base_url": server.url + "/api"}}))
    monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps({"host": server.url, "password": "T/B/x"}))
    monkeypatch.setenv("AIRFLOW_CONN_PD", json.dumps({"host": server.url, "password": "key"}))
    monkeypatch.setenv("AIRFLOW_CONN_BAD", json.dumps({"host": server.url + "/fail"}))
    with DAG("d", start_date=START) as dag:
        PythonOperator(task_id="t", python_callable=lambda: 1 / 0, on_failure_callback=[
            send_slack_notification(slack_conn_id="slack", text="{{ ti.task_id }} failed on {{ ds }}", channel="#c"),
            send_slack_webhook_notification(slack_webhook_conn_id="hook", text="{{ exception }}"),
            send_pagerduty_notification(pagerduty_events_conn_id="pd", summary="{{ dag.dag_id }}", severity="error"),
            send_slack_webhook_notification(slack_webhook_conn_id="bad", text="x"),
        ])
    comms = attempt(dag, "t")
    assert [(path, body.get("text") or body["payload"]["summary"], auth) for path, body, auth in server.got] == [
        ("/api/chat.postMessage", "t failed on 2024-01-01", "Bearer tok"), ("/T/B/x", "division by zero", None),
        ("/v2/enqueue", "d", None), ("/fail", "x", None)]
    assert server.got[2][1]["routing_key"] == "key"
    assert len(comms.sent[-1]["errors"]) == 1 and "answered 500" in comms.sent[-1]["errors"][0]
