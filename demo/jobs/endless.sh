#!/bin/bash
# Never ends by itself, and is hard to stop: it ignores SIGTERM, and so do its two helpers, one of which
# left the session.
trap '' TERM
sleep 3600 &
echo "helper $!"
setsid --fork sh -c 'echo "helper $$"; exec sleep 3600'
echo "main $$"
while true; do sleep 1; done
