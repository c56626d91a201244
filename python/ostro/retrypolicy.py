"""Retry policies: which exceptions end a task at once. They are asked in the task's own process.

A policy may fail a task earlier than ``retries`` says. The delay before a retry is the scheduler's, so the delay a policy
wants is only noted.
"""

from enum import Enum


class RetryAction(Enum):
    """What a policy decides."""

    RETRY = "retry"
    FAIL = "fail"
    DEFAULT = "default"


class RetryDecision:
    """The answer of a policy."""

    def __init__(self, action=RetryAction.DEFAULT, retry_delay=None, reason=None):
        self.action, self.retry_delay, self.reason = action, retry_delay, reason

    def __eq__(self, other):
        return isinstance(other, RetryDecision) and vars(self) == vars(other)

    __hash__ = None

    @classmethod
    def fail(cls, reason=None):
        return cls(RetryAction.FAIL, reason=reason)

    @classmethod
    def retry(cls, delay=None, reason=None):
        return cls(RetryAction.RETRY, delay, reason)

    @classmethod
    def default(cls):
        return cls()


class RetryPolicy:
    """Subclasses decide with ``evaluate``."""

    def evaluate(self, exception, try_number, max_tries, context=None):
        raise NotImplementedError("%s has no evaluate method" % type(self).__name__)


class RetryRule:
    """One kind of exception, given as a class, its import path or a list of both, and what to do about it."""

    def __init__(self, exception, action=RetryAction.RETRY, retry_delay=None, reason=None, match_subclasses=True):
        self.exception = exception
        self.action, self.retry_delay, self.reason = RetryAction(action), retry_delay, reason
        self.match_subclasses = match_subclasses
        for spec in self._specs():
            if isinstance(spec, str) and "." not in spec:
                raise ValueError("the exception of a RetryRule must be a class or its import path, such as "
                                 "'builtins.ValueError', not %r" % spec)

    def _specs(self):
        return self.exception if isinstance(self.exception, list) else [self.exception]

    def matches(self, exc):
        """Say whether the rule is about an exception. A path whose module cannot be imported matches nothing."""
        kinds = type(exc).__mro__ if self.match_subclasses else (type(exc),)
        for spec in self._specs():
            if spec in kinds:
                return True
            if isinstance(spec, str) and _imported(spec) in kinds:
                return True
        return False


def _imported(path):
    import importlib

    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


class ExceptionRetryPolicy(RetryPolicy):
    """The first rule that matches decides."""

    def __init__(self, rules, default=RetryAction.DEFAULT):
        self.rules, self.default = list(rules), RetryAction(default)

    def evaluate(self, exception, try_number=1, max_tries=0, context=None):
        for rule in self.rules:
            if rule.matches(exception):
                return RetryDecision(rule.action, rule.retry_delay, rule.reason)
        return RetryDecision(self.default)


class ChainRetryPolicy(RetryPolicy):
    """The first policy with an opinion decides."""

    def __init__(self, *policies):
        self.policies = list(policies[0]) if len(policies) == 1 and isinstance(policies[0], list) else list(policies)

    def evaluate(self, exception, try_number=1, max_tries=0, context=None):
        for policy in self.policies:
            decision = policy.evaluate(exception, try_number, max_tries, context)
            if decision.action is not RetryAction.DEFAULT:
                return decision
        return RetryDecision()
