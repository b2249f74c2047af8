#!/bin/sh
set -e
# An upgrade stops nothing: the new kit lies beside this one, which stays until the next but one.
[ "$$1" = remove ] || exit 0
if [ -x "$HOME/start" ]; then
    # Fails while the app runs: its keeper is a process of this kit.
    # 70: no kit is left.
    "$HOME/start" kit remove || [ $$? = 70 ]
fi
if [ -d /run/systemd/system ]; then
    systemctl disable --now "$SERVICE"
elif [ -x /usr/bin/systemctl ]; then
    systemctl disable "$SERVICE"
fi
