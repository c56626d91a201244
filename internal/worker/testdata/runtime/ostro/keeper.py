"""A host without one."""

import ostro.host

assert ostro.host
