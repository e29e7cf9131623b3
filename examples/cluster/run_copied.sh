#!/usr/bin/env bash
# Runs a study in a folder of this machine and copies it to another folder all the while: to a bucket, say, which has no
# locks and no links, and where this machine may vanish.
# Usage: run_copied.sh STUDY FOLDER COPY [options of tuneoff run]
set -euo pipefail
study=$1 folder=$2 copy=$3; shift 3
mkdir -p "$folder" "$copy"

# Records that are there before are copied after all else, so that a copy never claims more than it has.
copy_out() {
  local records
  records=$(cd "$folder" && find . -name record.json)
  rsync -rt --exclude lock --exclude record.json --exclude '.*' "$folder/" "$copy/"
  rsync -t --files-from=- "$folder/" "$copy/" <<< "$records"
}

[ -e "$folder/study.json" ] || rsync -rt --exclude lock "$copy/" "$folder/"
while sleep "${COPY_SECONDS:-60}"; do copy_out || true; done &
copier=$!
trap 'kill $copier; copy_out' EXIT
tuneoff run "$study" --out "$folder" "$@"
