"""Slack and PagerDuty, small: messages by HTTP through a Connection."""

from .baseoperator import BaseOperator
from .callbacks import BaseNotifier
from .connection import BaseHook
from .exceptions import AirflowException


def _post(url, body, headers=None, timeout=30, what="the message"):
    """Send JSON and return (status, text); raise with what the other side said."""
    import json
    import urllib.error
    import urllib.request

    if not url.startswith(("http://", "https://")):
        raise AirflowException("cannot send %s: %r is not an http address" % (what, url))
    request = urllib.request.Request(url, json.dumps(body).encode(), dict(
        {"Content-Type": "application/json; charset=utf-8"}, **(headers or {})))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as fault:
        raise AirflowException("cannot send %s: the server answered %d %s"
                               % (what, fault.code, fault.read().decode("utf-8", "replace")[:300])) from None
    except urllib.error.URLError as fault:
        raise AirflowException("cannot send %s: %s" % (what, fault.reason)) from None


def _given(**fields):
    return {name: value for name, value in fields.items() if value is not None}


class SlackWebhookHook(BaseHook):
    """An incoming webhook; the connection's host (and password as the path) is its address."""

    conn_type, default_conn_name = "slackwebhook", "slack_default"

    def __init__(self, *, slack_webhook_conn_id="slack_default", timeout=30, proxy=None, retry_handlers=None,
                 webhook_token=None, **_):
        super().__init__()
        self.slack_webhook_conn_id, self.timeout = slack_webhook_conn_id, timeout

    def _url(self):
        from .variable import mask

        connection = self.get_connection(self.slack_webhook_conn_id)
        token, host = connection.password or "", connection.host or "https://hooks.slack.com/services"
        if token.startswith("http"):
            url = token
        else:
            scheme = connection.schema or "https"
            base = host if "://" in host else "%s://%s%s" % (scheme, host, ":%d" % connection.port
                                                             if connection.port else "")
            url = base.rstrip("/") + ("/" + token.lstrip("/") if token else "")
        mask(url)
        return url

    def send_dict(self, body, *, headers=None):
        if isinstance(body, str):
            import json

            body = json.loads(body)
        return _post(self._url(), body, headers, self.timeout, "the Slack message")

    def send(self, *, text=None, attachments=None, blocks=None, response_type=None, replace_original=None,
             delete_original=None, unfurl_links=None, unfurl_media=None, headers=None, **extra):
        return self.send_dict(_given(text=text, attachments=attachments, blocks=blocks, unfurl_links=unfurl_links,
                                     unfurl_media=unfurl_media, response_type=response_type, **extra), headers=headers)

    def send_text(self, text, *, unfurl_links=None, unfurl_media=None, headers=None):
        return self.send(text=text, unfurl_links=unfurl_links, unfurl_media=unfurl_media, headers=headers)


class SlackHook(BaseHook):
    """Slack's Web API; the connection's password is the token."""

    conn_type, default_conn_name = "slack", "slack_default"

    def __init__(self, *, slack_conn_id="slack_default", base_url=None, timeout=30, proxy=None, **_):
        super().__init__()
        self.slack_conn_id, self.timeout = slack_conn_id, timeout
        self.base_url = base_url

    def call(self, api_method, *, json=None, data=None, **_):
        import json as codec

        connection = self.get_connection(self.slack_conn_id)
        base = self.base_url or connection.extra_dejson.get("base_url") or "https://slack.com/api/"
        _, text = _post(base.rstrip("/") + "/" + api_method, json or data or {},
                        {"Authorization": "Bearer %s" % (connection.password or "")}, self.timeout, "the Slack message")
        answer = codec.loads(text)
        if not answer.get("ok"):
            raise AirflowException("Slack refused %s: %s" % (api_method, answer.get("error")))
        return answer


class SlackNotifier(BaseNotifier):
    """Posts to a channel through Slack's Web API."""

    template_fields = ("text", "channel", "username", "attachments", "blocks")

    def __init__(self, *, slack_conn_id="slack_api_default", text="This is a default message", channel="general",
                 username="Airflow", icon_url=None, attachments=(), blocks=(), base_url=None, proxy=None, timeout=None,
                 retry_handlers=None, unfurl_links=True, unfurl_media=True, **_):
        super().__init__()
        self.slack_conn_id, self.text, self.channel, self.username = slack_conn_id, text, channel, username
        self.icon_url, self.attachments, self.blocks = icon_url, attachments, blocks
        self.base_url, self.timeout, self.unfurl_links, self.unfurl_media = (base_url, timeout or 30, unfurl_links,
                                                                             unfurl_media)

    def notify(self, context):
        hook = SlackHook(slack_conn_id=self.slack_conn_id, base_url=self.base_url, timeout=self.timeout)
        hook.call("chat.postMessage", json=_given(
            channel=self.channel, username=self.username, text=self.text, icon_url=self.icon_url,
            attachments=list(self.attachments) or None, blocks=list(self.blocks) or None,
            unfurl_links=self.unfurl_links, unfurl_media=self.unfurl_media))


class SlackWebhookNotifier(BaseNotifier):
    """Posts through an incoming webhook."""

    template_fields = ("slack_webhook_conn_id", "text", "attachments", "blocks")

    def __init__(self, *, slack_webhook_conn_id="slack_default", text=None, blocks=None, unfurl_links=None,
                 unfurl_media=None, timeout=None, proxy=None, attachments=None, retry_handlers=None, **_):
        super().__init__()
        self.slack_webhook_conn_id, self.text, self.blocks = slack_webhook_conn_id, text, blocks
        self.attachments, self.timeout = attachments, timeout or 30
        self.unfurl_links, self.unfurl_media = unfurl_links, unfurl_media

    def notify(self, context):
        SlackWebhookHook(slack_webhook_conn_id=self.slack_webhook_conn_id, timeout=self.timeout).send(
            text=self.text, blocks=self.blocks, attachments=self.attachments, unfurl_links=self.unfurl_links,
            unfurl_media=self.unfurl_media)


send_slack_notification = SlackNotifier
send_slack_webhook_notification = SlackWebhookNotifier


class SlackWebhookOperator(BaseOperator):
    """Posts through an incoming webhook, as a task."""

    template_fields = ("message", "attachments", "blocks", "channel", "username")
    shown_module = "airflow.providers.slack.operators.slack_webhook"

    def __init__(self, *, slack_webhook_conn_id, message="", attachments=None, blocks=None, channel=None,
                 username=None, icon_emoji=None, icon_url=None, proxy=None, timeout=30, retry_handlers=None, **kwargs):
        super().__init__(**kwargs)
        self.slack_webhook_conn_id, self.message, self.attachments = slack_webhook_conn_id, message, attachments
        self.blocks, self.channel, self.username, self.timeout = blocks, channel, username, timeout
        self.icon_emoji, self.icon_url = icon_emoji, icon_url

    def execute(self, context):
        SlackWebhookHook(slack_webhook_conn_id=self.slack_webhook_conn_id, timeout=self.timeout).send(
            text=self.message, attachments=self.attachments, blocks=self.blocks, channel=self.channel,
            username=self.username, icon_emoji=self.icon_emoji, icon_url=self.icon_url)


class SlackAPIPostOperator(BaseOperator):
    """Posts to a channel through Slack's Web API, as a task."""

    template_fields = ("username", "text", "attachments", "blocks", "channel")
    shown_module = "airflow.providers.slack.operators.slack"

    def __init__(self, *, slack_conn_id="slack_api_default", channel="#general", username="Airflow", text="",
                 icon_url=None, attachments=None, blocks=None, **kwargs):
        super().__init__(**kwargs)
        self.slack_conn_id, self.channel, self.username, self.text = slack_conn_id, channel, username, text
        self.icon_url, self.attachments, self.blocks = icon_url, attachments, blocks

    def execute(self, context):
        SlackHook(slack_conn_id=self.slack_conn_id).call("chat.postMessage", json=_given(
            channel=self.channel, username=self.username, text=self.text, icon_url=self.icon_url,
            attachments=self.attachments, blocks=self.blocks))


class PagerdutyEventsHook(BaseHook):
    """PagerDuty's events API v2; the connection's password is the integration key."""

    conn_type, default_conn_name = "pagerduty_events", "pagerduty_events_default"

    def __init__(self, integration_key=None, pagerduty_events_conn_id=None, **_):
        super().__init__()
        self.url = "https://events.pagerduty.com"
        if pagerduty_events_conn_id is not None:
            connection = self.get_connection(pagerduty_events_conn_id)
            integration_key = connection.password or connection.extra_dejson.get("integration_key")
            if connection.host:
                self.url = connection.host if "://" in connection.host else "https://" + connection.host
        if not integration_key:
            raise AirflowException("PagerDuty needs an integration key: give integration_key= or a connection whose "
                                   "password it is")
        self.integration_key = integration_key

    def send_event(self, summary, severity, source="airflow", action="trigger", dedup_key=None, custom_details=None,
                   group=None, component=None, class_type=None, images=None, links=None):
        import json

        if action not in ("trigger", "acknowledge", "resolve"):
            raise ValueError("event action must be trigger, acknowledge or resolve, not %r" % (action,))
        body = _given(routing_key=self.integration_key, event_action=action, dedup_key=dedup_key, images=images,
                      links=links)
        if action == "trigger":
            body["payload"] = _given(summary=summary, severity=severity, source=source, group=group,
                                     component=component, custom_details=custom_details, **{"class": class_type})
        _, text = _post(self.url.rstrip("/") + "/v2/enqueue", body, what="the PagerDuty event")
        return json.loads(text).get("dedup_key")


class PagerdutyNotifier(BaseNotifier):
    """Raises (or resolves) an incident."""

    template_fields = ("summary", "severity", "source", "dedup_key", "custom_details", "group", "component",
                       "class_type", "images", "links")

    def __init__(self, *, pagerduty_events_conn_id="pagerduty_events_default", summary, severity, source="airflow",
                 action="trigger", dedup_key=None, custom_details=None, group=None, component=None, class_type=None,
                 images=None, links=None, integration_key=None, **_):
        super().__init__()
        self.pagerduty_events_conn_id, self.integration_key = pagerduty_events_conn_id, integration_key
        self.summary, self.severity, self.source, self.action = summary, severity, source, action
        self.dedup_key, self.custom_details, self.group, self.component = dedup_key, custom_details, group, component
        self.class_type, self.images, self.links = class_type, images, links

    def notify(self, context):
        hook = PagerdutyEventsHook(self.integration_key,
                                   None if self.integration_key else self.pagerduty_events_conn_id)
        hook.send_event(summary=self.summary, severity=self.severity, source=self.source, action=self.action,
                        dedup_key=self.dedup_key, custom_details=self.custom_details, group=self.group,
                        component=self.component, class_type=self.class_type, images=self.images, links=self.links)


send_pagerduty_notification = PagerdutyNotifier
