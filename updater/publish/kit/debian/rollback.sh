#!/bin/sh
# Goes back to a version that worked, when everything else is broken. It needs nothing of the agent.
: "$${TILLKEEPER_SETTINGS:=$SETTINGS}"
export TILLKEEPER_SETTINGS
exec /usr/bin/python3 -I -S $RESCUE/lib/scripts/rollback.py "$$@"
