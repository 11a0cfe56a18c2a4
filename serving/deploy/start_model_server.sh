#!/bin/sh
# Starts tensorflow_model_server on what `captioner serve --print-command` wrote.
#   SERVING_DIR=runs/sample/serving serving/deploy/start_model_server.sh
set -eu
: "${SERVING_DIR:?set SERVING_DIR to <run root>/serving, which holds models.config}"
[ -f "$SERVING_DIR/models.config" ] || {
  echo "$SERVING_DIR/models.config is missing: captioner serve --serving-dir $SERVING_DIR --print-command writes it" >&2
  exit 2
}
exec tensorflow_model_server \
  --port="${PORT:-8500}" \
  --rest_api_port="${REST_API_PORT:-8501}" \
  --model_config_file="$SERVING_DIR/models.config" \
  --monitoring_config_file="$SERVING_DIR/monitoring.config" \
  --enable_batching=true \
  --batching_parameters_file="$SERVING_DIR/batching.config" \
  --file_system_poll_wait_seconds=1 \
  --allow_version_labels_for_unavailable_models=true
