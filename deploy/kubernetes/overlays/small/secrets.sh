#!/bin/sh
# Print the Secrets of a trial, with passwords and tokens made now: secrets.sh | kubectl create -f -
# `create` refuses to replace what is there. WINDLASS is the command to use, such as "docker run --rm registry.example.org/windlass:2026-11".
set -eu
database=$(openssl rand -hex 24)
redis=$(openssl rand -hex 24)
admin=$(${WINDLASS:-windlass} token generate)
join=$(${WINDLASS:-windlass} token generate --join)
cat <<END
apiVersion: v1
kind: Secret
metadata: {name: windlass, namespace: windlass}
stringData:
  database-url: postgresql://windlass:$database@postgres:5432/windlass
  redis-url: redis://:$redis@redis:6379/0
  admin-token: $admin
  join-token: $join
---
apiVersion: v1
kind: Secret
metadata: {name: windlass-postgres, namespace: windlass}
stringData:
  password: $database
---
apiVersion: v1
kind: Secret
metadata: {name: windlass-redis, namespace: windlass}
stringData:
  redis.conf: requirepass $redis
END
