#!/bin/sh
# Let the app submit Spark batches. Synapse keeps such roles itself, where Bicep does not reach.
set -eu

if az synapse role assignment list --workspace-name "$SYNAPSE_WORKSPACE" --assignee-object-id "$APP_PRINCIPAL" \
  --role "Synapse Compute Operator" --query "[0].id" --output tsv | grep -q .; then
  exit 0
fi
az synapse role assignment create --workspace-name "$SYNAPSE_WORKSPACE" --assignee-object-id "$APP_PRINCIPAL" \
  --assignee-principal-type ServicePrincipal --role "Synapse Compute Operator" --output none
