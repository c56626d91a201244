"""A host without one."""

import ostro.host  # noqa: F401
