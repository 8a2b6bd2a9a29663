#!/bin/bash
# Counts the words of the sources in a folder: words.sh FOLDER TARGET.txt. A plain pipeline of programs.
set -eu -o pipefail
find "$1" -name '*.py' -not -path '*/site-packages/*' -print0 | xargs -0 cat |
    tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | LC_ALL=C sort | uniq -c | LC_ALL=C sort -rn >"$2"
echo "$(wc -l <"$2") different words; the most frequent:"
head -n 5 "$2" || true
