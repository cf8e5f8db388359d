#!/bin/sh
# SPDX-License-Identifier: MIT
# The reference of the public headers is made without a warning. The pages: build/reference/html/index.html.
set -eu
cd "$(dirname "$0")/../.."
command -v doxygen >/dev/null 2>&1 || { echo "SKIPPED: doxygen is not installed"; exit 0; }
mkdir -p build
warnings=$(doxygen docs/Doxyfile 2>&1)
[ -z "$warnings" ] || { echo "$warnings"; exit 1; }
[ -f build/reference/html/index.html ]
