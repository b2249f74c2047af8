#!/bin/sh
# Sign the timestamp anew, every night. The environment is that of release.sh; KEYS has the key of timestamp alone.
# A repository that was made with `init --expires timestamp=DAYS` needs the same option here: nothing public says it.
set -eu
updater publish rebuild --app "$APP" --public "$PUBLIC" --endpoint "${ENDPOINT-}" --keys "$KEYS" --root "$ROOT" --metadata-only
status=0
updater publish refresh --within 21 --password-file "$PASSWORDS" || status=$?
case $status in
0) ;;
5) echo "refreshed, and a person must sign soon: updater publish sign renew ROLE, see docs/keys.md" ;;
75) echo "the store did not answer; run this job again" ;;
*) echo "terminals refuse the repository when its timestamp has ended; nothing public has changed" ;;
esac
exit "$status"
