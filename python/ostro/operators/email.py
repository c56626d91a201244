"""EmailOperator: a mail by SMTP through a Connection; what is sent is the author's, where to is the connection's."""

from ..baseoperator import BaseOperator
from ..connection import BaseHook
from ..exceptions import AirflowException


class EmailOperator(BaseOperator):
    """Sends a mail. The connection ``smtp_default`` has the server, and in its extra ``from_email``."""

    template_fields = ("to", "subject", "html_content", "from_email", "files", "cc", "bcc")
    template_ext = (".html",)
    template_fields_renderers = {"html_content": "html"}
    ui_color = "#e6faf9"
    shown_module = "airflow.providers.smtp.operators.smtp"
    runtime_modules = ("smtplib", "email.message")

    def __init__(self, *, to, subject, html_content, from_email=None, files=None, cc=None, bcc=None, mime_subtype="mixed",
                 mime_charset="utf-8", conn_id="smtp_default", custom_headers=None, **kwargs):
        super().__init__(**kwargs)
        self.to, self.subject, self.html_content, self.from_email = to, subject, html_content, from_email
        self.files, self.cc, self.bcc = files, cc, bcc
        self.mime_subtype, self.mime_charset = mime_subtype, mime_charset
        self.conn_id, self.custom_headers = conn_id or "smtp_default", custom_headers

    def execute(self, context):
        send_email(self.to, self.subject, self.html_content, files=self.files, cc=self.cc, bcc=self.bcc,
                   mime_subtype=self.mime_subtype, mime_charset=self.mime_charset, conn_id=self.conn_id,
                   from_email=self.from_email, custom_headers=self.custom_headers)


def send_email(to, subject, html_content, files=None, dryrun=False, cc=None, bcc=None, mime_subtype="mixed",
               mime_charset="utf-8", conn_id=None, from_email=None, custom_headers=None, **_):
    """Send a mail through the SMTP server of a connection; with ``dryrun`` everything but that."""
    connection = BaseHook.get_connection(conn_id or "smtp_default")
    sender = from_email or connection.extra_dejson.get("from_email") or connection.login
    if not sender:
        raise AirflowException("cannot send the mail %r: who it is from is not said; give from_email= or put from_email in "
                               "the extra of the connection %s" % (subject, connection.conn_id))
    message = _message(sender, _addresses(to), subject, html_content, _addresses(cc), mime_charset, custom_headers)
    for path in files or ():
        _attach(message, path)
    everyone = _addresses(to) + _addresses(cc) + _addresses(bcc)
    if not everyone:
        raise AirflowException("cannot send the mail %r: it is to nobody" % subject)
    if not dryrun:
        _deliver(connection, sender, everyone, message)


def _addresses(given):
    """Take a list, or text with commas or semicolons."""
    if not given:
        return []
    many = given.replace(";", ",").split(",") if isinstance(given, str) else given
    return [one.strip() for one in many if one.strip()]


def _message(sender, to, subject, html, cc, charset, headers):
    from email.message import EmailMessage
    from email.utils import formatdate, make_msgid

    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, ", ".join(to), subject
    if cc:
        message["Cc"] = ", ".join(cc)
    message["Date"], message["Message-ID"] = formatdate(localtime=True), make_msgid(domain="ostro.invalid")
    for name, value in (headers or {}).items():
        message[name] = value
    message.set_content(html, subtype="html", charset=charset)
    return message


def _attach(message, path):
    import mimetypes
    import os

    kind = mimetypes.guess_type(str(path))[0] or "application/octet-stream"
    with open(path, "rb") as handle:
        message.add_attachment(handle.read(), maintype=kind.partition("/")[0], subtype=kind.partition("/")[2],
                               filename=os.path.basename(str(path)))


def _deliver(connection, sender, to, message):
    import smtplib

    extra = connection.extra_dejson
    ssl = not _yes(extra.get("disable_ssl"))
    host, port = connection.host or "localhost", connection.port or (465 if ssl else 25)
    make = smtplib.SMTP_SSL if ssl else smtplib.SMTP
    try:
        with make(host, int(port), timeout=float(extra.get("timeout") or 30)) as server:
            if not ssl and not _yes(extra.get("disable_tls")):
                server.starttls()
            if connection.login:
                server.login(connection.login, connection.password or "")
            server.send_message(message, sender, to)
    except (OSError, smtplib.SMTPException) as fault:
        raise AirflowException("cannot send the mail by %s:%s (connection %s, %s): %s: %s" % (
            host, port, connection.conn_id, "disable_ssl in its extra is not set" if ssl else "without SSL",
            type(fault).__name__, fault)) from fault


def _yes(value):
    return str(value).lower() in ("true", "1", "yes")
