"""EmailOperator and send_email against a small SMTP server."""

import email
import email.policy
import json
import socket
import threading

import pytest

from airflow import DAG
from airflow.operators.email import EmailOperator
from airflow.utils.email import send_email
from support import START, attempt


class Server:
    """Accepts one mail and keeps it."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(30)
        self.port = self.socket.getsockname()[1]
        self.commands, self.message = [], None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        connection, _ = self.socket.accept()
        with connection, connection.makefile("rwb", buffering=0) as line:
            line.write(b"220 hello\r\n")
            for raw in iter(line.readline, b""):
                command = raw.decode().strip()
                self.commands.append(command)
                if command.lower() == "data":
                    line.write(b"354 go on\r\n")
                    data = b"".join(iter(line.readline, b".\r\n"))
                    self.message = email.message_from_bytes(data, policy=email.policy.default)
                line.write(b"221 bye\r\n" if command.lower() == "quit" else b"250 fine\r\n")

    def close(self):
        self.socket.close()
        self.thread.join(30)


@pytest.fixture
def server(monkeypatch):
    made = Server()
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps({
        "conn_type": "smtp", "host": "127.0.0.1", "port": made.port,
        "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "ostro@example.com"}}))
    yield made
    made.close()


def test_a_mail_is_rendered_and_sent_through_the_connection(server, tmp_path):
    (tmp_path / "report.csv").write_text("a,b\n")
    with DAG("d", start_date=START) as dag:
        EmailOperator(task_id="mail", to="a@example.com; b@example.com", cc=["c@example.com"], bcc="d@example.com",
                      subject="Report of {{ ds }}", html_content="<b>gr\u00fcn</b>", files=[str(tmp_path / "report.csv")],
                      custom_headers={"X-Team": "ml"})
    assert attempt(dag, "mail").terminal["type"] == "SucceedTask"
    server.close()
    message = server.message
    envelope = [line.partition("<")[2].partition("@")[0] for line in server.commands if "<" in line]
    assert envelope == ["ostro", "a", "b", "c", "d"]
    assert (message["From"], message["To"], message["Cc"], message["Bcc"], message["Subject"], message["X-Team"]) == (
        "ostro@example.com", "a@example.com, b@example.com", "c@example.com", None, "Report of 2024-01-01", "ml")
    body, attached = message.iter_parts()
    assert (body.get_content_type(), body.get_content().strip()) == ("text/html", "<b>gr\u00fcn</b>")
    assert (attached.get_filename(), attached.get_content()) == ("report.csv", "a,b\n")


def test_what_keeps_a_mail_from_being_sent_is_told(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://127.0.0.1:1")
    with pytest.raises(Exception, match="who it is from is not said; give from_email= or put from_email in the extra"):
        send_email("a@example.com", "s", "x")
    with pytest.raises(Exception, match="it is to nobody"):
        send_email([], "s", "x", from_email="b@example.com")
    with pytest.raises(Exception, match=r"cannot send the mail by 127.0.0.1:1 \(connection smtp_default, disable_ssl in its "
                                        "extra is not set"):
        send_email("a@example.com", "s", "x", from_email="b@example.com")
