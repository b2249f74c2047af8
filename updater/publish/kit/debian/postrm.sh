#!/bin/sh
set -e
case "$$1" in
remove)
    rm -rf "$HOME"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
    echo "$PACKAGE: the terminal stays as it is, its data and its versions too; $RESCUE can still go back."
    ;;
purge)
    rm -rf "$HOME" "$RESCUE"
    echo "$PACKAGE: the data of the terminal stays; $SETTINGS says where it is."
    ;;
esac
