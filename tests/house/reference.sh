#!/bin/sh
# SPDX-License-Identifier: MIT
# The reference of all public headers is made without a warning, and no class is without a word.
set -eu
cd "$(dirname "$0")/../.."
command -v doxygen >/dev/null 2>&1 || { echo "SKIPPED: doxygen is not installed"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# pages SETTING=VALUE ...: what doxygen has to say of the pages that it makes with these changes
pages() {
  { cat docs/Doxyfile; printf 'OUTPUT_DIRECTORY=%s\n' "$folder"; printf '%s\n' "$@"; } | doxygen - 2>&1
}
warnings=$(pages)
classes=$(pages EXTRACT_ALL=NO WARN_IF_UNDOCUMENTED=YES GENERATE_HTML=NO GENERATE_XML=YES | grep 'warning: Compound' || true)
if [ -n "$warnings$classes" ]; then
  echo "$warnings$classes"
  exit 1
fi
