#!/usr/bin/env bash
# The certificate and the passwords that deploy/compose.secured.yaml asks for, into the folder deploy/secured. Once: it
# does not touch a folder that is there. Run it as the user 1000, as which the containers run, or give them the folder.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir secured
cd secured
openssl req -x509 -newkey rsa:2048 -nodes -days 825 -subj /CN=kafka -addext subjectAltName=DNS:kafka \
  -keyout key.pem -out ca.pem 2>/dev/null
cat key.pem ca.pem >broker.pem
rm key.pem
users=""
for role in operator ingest inference calc query notify; do
  password=$(openssl rand -hex 24)
  users+=" user_glucast-$role=\"$password\""
  printf 'GLUCAST_SASL_USERNAME=glucast-%s\nGLUCAST_SASL_PASSWORD=%s\n' "$role" "$password" >"$role.env"
done
printf "KAFKA_LISTENER_NAME_SECURED_PLAIN_SASL_JAAS_CONFIG='%s required%s;'\n" \
  org.apache.kafka.common.security.plain.PlainLoginModule "$users" >kafka.env
echo "made deploy/secured: keep it to yourself"
