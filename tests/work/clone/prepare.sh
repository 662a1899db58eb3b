#!/bin/sh
# A repository to clone: 50 commits of 20 files each.
set -eu
git init -q --bare --initial-branch=main origin.git
awk 'BEGIN {
    for (commit = 1; commit <= 50; commit++) {
        print "commit refs/heads/main"
        print "committer Developer <developer@example.invalid> " 1700000000 + commit " +0000"
        print "data <<END\nCommit " commit "\nEND"
        for (file = 1; file <= 20; file++) {
            print "M 100644 inline part-" commit "/file-" file ".txt\ndata <<END"
            for (line = 1; line <= 40; line++) print "Line " line " of file " file " in part " commit
            print "END"
        }
    }
}' | git -C origin.git fast-import --quiet
