"""The few classes of the Kubernetes provider that DAG files construct themselves."""

from enum import Enum


class Secret:
    """A Kubernetes secret to mount or to put in the environment."""

    def __init__(self, deploy_type, deploy_target, secret, key=None, items=None):
        if deploy_type not in ("env", "volume"):
            raise ValueError("deploy_type must be env or volume, not %r" % (deploy_type,))
        self.deploy_type, self.deploy_target = deploy_type, deploy_target
        self.secret, self.key, self.items = secret, key, items or []

    def __repr__(self):
        return "Secret(%s, %s, %s, %s)" % (self.deploy_type, self.deploy_target, self.secret, self.key)

    def to_dict(self):
        return {"deploy_type": self.deploy_type, "deploy_target": self.deploy_target, "secret": self.secret,
                "key": self.key}


class OnFinishAction(str, Enum):
    """What becomes of a pod that has ended."""

    KEEP_POD = "keep_pod"
    DELETE_POD = "delete_pod"
    DELETE_SUCCEEDED_POD = "delete_succeeded_pod"
    DELETE_ACTIVE_POD = "delete_active_pod"
