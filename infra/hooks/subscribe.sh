#!/bin/sh
# Subscribe the functions to the lake and the Azure ML workspace, now that Event Grid finds them.
set -eu

az deployment group create --resource-group "$AZURE_RESOURCE_GROUP" --name subscriptions \
  --template-file infra/subscriptions.bicep --output none --parameters \
  lakeTopic="$LAKE_TOPIC" mlTopic="$ML_TOPIC" lakeAccount="$LAKE_ACCOUNT" functionApp="$FUNCTION_APP"
echo "Land a file: az storage blob upload --auth-mode login --account-name $LAKE_ACCOUNT --container-name lake \\"
echo "  --name landing/customer-churn/customers.csv --file samples/telco_churn.csv"
