#!/bin/bash
# The application rows, run inside a root that has the programs (root.py): `apps.sh ROW` prints nanoseconds
# (or operations a second, for rows that count them), one measurement a line. /tmp is a tmpfs of the sandbox.
set -eu
cd /tmp
time_of() { /opt/bench/guest time "$@"; }

case $1 in
  find_first) time_of 1 find / -xdev ;;
  find) find / -xdev >/dev/null; time_of 3 find / -xdev ;;
  python) python3 -c pass; time_of 5 python3 -c pass ;;
  node) node -e 0; time_of 3 node -e 0 ;;
  gcc)
    awk 'BEGIN { for (i = 0; i < 200; i++) printf "int f%d(int a, int b)\n{\n  int s = %d;\n  for (int i = 0; i < a; i++) {\n    s += (i * b) ^ (s >> %d);\n    if (s %% 7 == 3)\n      s -= a;\n  }\n  return s;\n}\n", i, i, i % 13 + 1 }' >generated.c
    time_of 2 gcc -O2 -c generated.c -o generated.o ;;
  git)
    export GIT_CONFIG_NOSYSTEM=1 HOME=/tmp
    git config --global user.email bench@example.org
    git config --global user.name bench
    cat >do-git <<'EOF'
#!/bin/sh
set -e
cd /tmp/repository
git init -q .
git add .
git commit -q -m one
EOF
    chmod +x do-git
    for round in 1 2; do
      rm -rf repository
      mkdir repository
      for i in $(seq 500); do echo "file $i" >repository/file-$i; done
      time_of 1 ./do-git
    done ;;
  tar)
    tar -cf /tmp/x.tar -C /usr/lib/git-core . 2>/dev/null || true
    time_of 2 tar -cf /tmp/x.tar -C /usr/share/perl . ;;
  sh_exec) time_of 1 /bin/dash -c 'i=0; while [ $i -lt 500 ]; do /opt/bench/true; i=$((i+1)); done' ;;
  sqlite)
    { echo 'PRAGMA synchronous=off; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);'
      for i in $(seq 500); do echo "INSERT INTO t(b) VALUES('row $i');"; done; } >script.sql
    echo 'rm -f db; exec sqlite3 db <script.sql' >run-sqlite
    time_of 3 /bin/dash run-sqlite ;;
  redis*)
    redis-server --port 0 --unixsocket /tmp/redis.sock --save '' --daemonize no >/dev/null &
    server=$!
    for i in $(seq 100); do redis-cli -s /tmp/redis.sock ping >/dev/null 2>&1 && break; sleep 0.05; done
    pipeline=1; requests=${REDIS_REQUESTS:-20000}
    [ "$1" = redis_16 ] && pipeline=16 && requests=$((requests * 5))
    redis-benchmark -s /tmp/redis.sock -t get -P $pipeline -n $requests --csv | awk -F'"' '/^"GET/ { print $4 }'
    kill $server; wait $server || true ;;
  fio)
    fio --name=r --rw=randread --bs=4k --size=64M --filename=/opt/bench/data --readonly --numjobs=2 --thread \
      --ioengine=psync --time_based --runtime=1 --group_reporting --output-format=json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["read"]["iops"])' ;;
  *) echo "apps.sh: $1?" >&2; exit 2 ;;
esac
