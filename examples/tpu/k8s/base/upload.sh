#!/bin/sh
# Uploads the folder of results, and ends with the status of the run that made them.
#   RESULTS         the folder; its file `status` holds the run's status
#   UPLOAD_URL      where to PUT a .tar.gz of it, such as a pre-signed URL; needs curl and tar
#   UPLOAD_COMMAND  or: what to run instead; `gcloud storage cp -r "$RESULTS" gs://BUCKET/FOLDER`, say
# With --check it only says whether it could: a run of an hour should not end with nowhere to go.
set -eu

fail() { echo "upload.sh: $*" >&2; exit 2; }

[ -n "${RESULTS:-}" ] || fail "RESULTS is not set"
if [ -n "${UPLOAD_URL:-}" ] && [ -n "${UPLOAD_COMMAND:-}" ]; then
  fail "both UPLOAD_URL and UPLOAD_COMMAND are set"
fi
if [ -n "${UPLOAD_URL:-}" ]; then
  command -v curl >/dev/null || fail "UPLOAD_URL is set, but this image has no curl"
elif [ -z "${UPLOAD_COMMAND:-}" ]; then
  fail "neither UPLOAD_URL nor UPLOAD_COMMAND is set"
fi
[ "${1:-}" != --check ] || exit 0

if [ -n "${UPLOAD_URL:-}" ]; then
  archive=$(mktemp)
  trap 'rm -f "$archive"' EXIT
  tar -czf "$archive" -C "$RESULTS" .
  curl --fail --silent --show-error --retry 3 --upload-file "$archive" "$UPLOAD_URL"
else
  sh -c "$UPLOAD_COMMAND"
fi
echo "uploaded"
exit "$(cat "$RESULTS/status")"
