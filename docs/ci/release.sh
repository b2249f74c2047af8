#!/bin/sh
# Publish a build. Usage: release.sh BUNDLE VERSION. Needs in the environment:
#   TILLKEEPER_REPOSITORY, where the workshop is made, and PUBLIC, a folder or s3://BUCKET/PREFIX (ENDPOINT: a server other than Amazon's)
#   APP, ROOT (the terminals' 1.root.json), KEYS (a folder with the keys of targets, snapshot and timestamp), PASSWORDS (a folder with a
#   file for each key); for a bucket AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or whatever else its library finds
set -eu
bundle=$1 version=$2
updater publish rebuild --app "$APP" --public "$PUBLIC" --endpoint "${ENDPOINT-}" --keys "$KEYS" --root "$ROOT"
status=0
updater publish release "$bundle" --version "$version" --password-file "$PASSWORDS" || status=$?
case $status in
0) echo "$version is public" ;;
75) echo "$version waits for signatures, or the store did not answer: run this job again, or see docs/keys.md" ;;
*) echo "$version was refused; nothing public has changed" ;;
esac
exit "$status"
