#!/bin/sh
# Puts the kit beside the one before and lets the programs run it. A cut anywhere leaves programs of whole kits, and
# `dpkg --configure -a` repeats this.
set -e
[ "$$1" = configure ] || exit 0

getent passwd "$TILL" >/dev/null || useradd --create-home --shell /bin/bash "$TILL"
if [ -n "$GROUP" ]; then
    getent group "$GROUP" >/dev/null || groupadd "$GROUP"
    usermod -aG "$GROUP" "$TILL"
fi

if [ ! -d "$HOME/$AGENT" ]; then
    rm -rf "$HOME/$AGENT.new"
    mkdir -p "$HOME"
    cp -a "$PAYLOAD/$AGENT" "$HOME/$AGENT.new"
    mv -T "$HOME/$AGENT.new" "$HOME/$AGENT"
fi
# By itself, not by the program of the home, which may be another kit's until this is done.
/usr/bin/python3 -I -S -c "import sys; sys.path.insert(0, sys.argv.pop(1)); from updater.__main__ import main; main()" \
    "$HOME/$AGENT/site" kit place "$HOME/$AGENT" --rescue "$RESCUE"
cat >"$HOME/begin.new" <<'SCRIPT'
#!/bin/sh
# The first installation of the terminal; afterwards it does nothing.
exec "$HOME/start" kit begin --rescue "$RESCUE"
SCRIPT
chmod 755 "$HOME/begin.new"
mv -T "$HOME/begin.new" "$HOME/begin"

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable "$SERVICE"
    systemctl --no-block restart "$SERVICE"
elif [ -x /usr/bin/systemctl ]; then
    systemctl enable "$SERVICE"
fi
