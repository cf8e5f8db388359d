#!/bin/sh
# SPDX-License-Identifier: MIT
# The reference of all public headers is generated without warnings, and every class is documented.
set -eu
cd "$(dirname "$0")/../.."
command -v doxygen >/dev/null 2>&1 || { echo "SKIPPED: doxygen is not installed"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# pages SETTING=VALUE ...: the warnings of doxygen with these settings changed
pages() {
  { cat docs/Doxyfile; printf 'OUTPUT_DIRECTORY=%s\n' "$folder"; printf '%s\n' "$@"; } | doxygen - 2>&1
}
warnings=$(pages)
classes=$(pages EXTRACT_ALL=NO WARN_IF_UNDOCUMENTED=YES GENERATE_HTML=NO GENERATE_XML=YES | grep 'warning: Compound' || true)
if [ -n "$warnings$classes" ]; then
  echo "$warnings$classes"
  exit 1
fi
